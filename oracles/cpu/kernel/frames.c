/* The frames of the cases. A word that no case has poked holds an instruction that loads the word's own number, and an
 * undefined opcode; read as a table entry, in any format and either half, it is not present:
 *
 *    63      56 55      48 47      40 39                     8 7         0
 *   +----------+----------+----------+------------------------+-----------+
 *   |    0f    |    0b    |    0f    |  word number, spread   |  b8 (MOV) |
 *   +----------+----------+----------+------------------------+-----------+
 *
 * The number is spread around bit 10 of the word, which must be 0: with mode-based execute control it makes an EPT entry
 * present. */

#include "kernel.h"

#define INVALID_OPCODE 6

static u64 pattern(u64 address) {
  u64 number = address >> 3;
  u64 spread = (number & 3) | (number & ~3UL) << 1;
  return 0x0f0b0f0000000000UL | spread << 8 | 0xb8;
}

void frames_init(void) {
  /* Four words at a time, without computing each: Bochs has six million of them to fill at every start. */
  u64 word = pattern(FRAMES_FROM);
  for (volatile u64 *at = (u64 *)FRAMES_FROM; at < (u64 *)FRAMES_END; at += 4, word += 0x800) {
    at[0] = word;
    at[1] = word + 0x100;
    at[2] = word + 0x200;
    at[3] = word + 0x300;
  }
}

static int is_ours(u64 address) {
  return address >= FRAMES_FROM && address <= FRAMES_END - 8 && (address & 7) == 0;
}

void poke_all(const struct request *request) {
  for (u32 i = 0; i < request->pokes; i++)
    if (is_ours(request->poke[i].address)) *(volatile u64 *)request->poke[i].address = request->poke[i].value;
}

static const u32 *hints_of(const struct request *request) {
  return (const u32 *)(request->poke + request->pokes);
}

/* Whether the `count` bytes at `address` are now those of `written` and were something else before. */
static int is_hit(const struct request *request, u64 address, u64 written, u32 count) {
  u64 mask = count == 8 ? ~0UL : (1UL << 8 * count) - 1;
  u64 words[2] = {pattern(address & ~7UL), pattern((address & ~7UL) + 8)};
  u64 now = *(volatile u64 *)address & mask;
  if (now != (written & mask)) return 0;
  for (u32 i = 0; i < request->pokes; i++) {
    if (request->poke[i].address == (address & ~7UL)) words[0] = request->poke[i].value;
    if (request->poke[i].address == (address & ~7UL) + 8) words[1] = request->poke[i].value;
  }
  u32 shift = 8 * (address & 7);
  u64 before = words[0] >> shift;
  if (shift != 0) before |= words[1] << (64 - shift);
  return (before & mask) != now;
}

/* Where in the frames `count` bytes of `written` landed whose place in a page is `offset`: 0 if nowhere. */
static u64 hit(const struct request *request, u32 offset, u64 written, u32 count) {
  const u32 *hints = hints_of(request);
  for (u32 i = 0; i < request->hints; i++) {
    u64 address = ((u64)hints[i] << 12) + offset;
    if (is_ours(address & ~7UL) && is_hit(request, address, written, count)) return address;
  }
  for (u64 address = FRAMES_FROM + offset; address < FRAMES_END; address += 0x1000) {
    u64 mask = count == 8 ? ~0UL : (1UL << 8 * count) - 1;
    if ((*(volatile u64 *)address & mask) == (written & mask) && is_hit(request, address, written, count))
      return address;
  }
  return 0;
}

/* Whether the access writes. Numbers of stubs as in stubs.S. */
static int writes(const struct request *request) {
  return (request->stub >= 4 && request->stub <= 11) || request->stub == 14;
}

/* Whether the access ended with the sign of success. Looking for what was not written would take longer than the case. */
static int succeeded(const struct reply *reply) {
  switch (reply->answer) {
    case EXCEPTION: return reply->code == INVALID_OPCODE;
    case SVM_EXIT: return reply->code == 0x40 + INVALID_OPCODE;
    case VMX_EXIT: return reply->code == 0 && (reply->event & 0xff) == INVALID_OPCODE;
    default: return 0;
  }
}

/* The translation keeps the low 12 bits of an address, so there is one place in each frame to look at; two for an access
 * that straddles pages. */
void find_hits(const struct request *request, struct reply *reply) {
  if (!writes(request) || !succeeded(reply)) return;
  u32 offset = request->linear & 0xfff;
  u32 first = offset + request->size > 0x1000 ? 0x1000 - offset : request->size;
  reply->hit[0] = hit(request, offset, MAGIC, first);
  if (first < request->size) reply->hit[1] = hit(request, 0, MAGIC >> 8 * first, request->size - first);
}

static void restore(u64 address) {
  if (is_ours(address & ~7UL)) *(volatile u64 *)(address & ~7UL) = pattern(address & ~7UL);
}

/* Reports every poked word as it is now, and makes the frames what they were. */
void undo_all(const struct request *request, struct reply *reply) {
  for (u32 i = 0; i < request->pokes; i++)
    reply->after[i] = is_ours(request->poke[i].address) ? *(volatile u64 *)request->poke[i].address : 0;
  for (u32 i = 0; i < request->pokes; i++) restore(request->poke[i].address);
  for (u32 i = 0; i < 2; i++)
    if (reply->hit[i] != 0) {
      restore(reply->hit[i]);
      restore(reply->hit[i] + 7);
    }
}
