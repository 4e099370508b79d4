// What a domain does for the host: one hypercall or one access at a time, and nothing of its own. It knows no hypercall but that
// which gives the processor to others.

#include "mailbox.h"

#define SCHED_OP 29 // SCHEDOP_yield is 0 (Xen public/sched.h)

unsigned long hypercall(unsigned long number, const unsigned long *words);

// Page-aligned, and followed by the frames that arguments of hypercalls lie in.
static struct {
  struct mailbox box;
  char rest[4096 - sizeof(struct mailbox)];
  char arguments[ARGUMENT_FRAMES][4096];
} shared __attribute__((aligned(4096), section(".mailbox"))) = {.box = {.magic = MAILBOX_MAGIC}};

static unsigned long load(unsigned long at, unsigned int size) {
  switch (size) {
  case 1: return *(volatile unsigned char *)at;
  case 2: return *(volatile unsigned short *)at;
  case 4: return *(volatile unsigned int *)at;
  default: return *(volatile unsigned long *)at;
  }
}

static void store(unsigned long at, unsigned int size, unsigned long value) {
  switch (size) {
  case 1: *(volatile unsigned char *)at = value; return;
  case 2: *(volatile unsigned short *)at = value; return;
  case 4: *(volatile unsigned int *)at = value; return;
  default: *(volatile unsigned long *)at = value; return;
  }
}

static unsigned long exchange(unsigned long at, unsigned int size, unsigned long expected, unsigned long value) {
  unsigned long old = expected;
  switch (size) {
  case 1: asm volatile("lock cmpxchgb %b2, (%1)" : "+a"(old) : "r"(at), "q"(value) : "memory", "cc"); break;
  case 2: asm volatile("lock cmpxchgw %w2, (%1)" : "+a"(old) : "r"(at), "r"(value) : "memory", "cc"); break;
  case 4: asm volatile("lock cmpxchgl %k2, (%1)" : "+a"(old) : "r"(at), "r"(value) : "memory", "cc"); break;
  default: asm volatile("lock cmpxchgq %2, (%1)" : "+a"(old) : "r"(at), "r"(value) : "memory", "cc");
  }
  return old;
}

static unsigned long carry_out(const struct mailbox *box) {
  const unsigned long *words = box->words;
  switch (box->kind) {
  case HYPERCALL: return hypercall(words[0], words + 1);
  case LOAD: return load(words[0], box->size);
  case STORE: store(words[0], box->size, words[1]); return 0;
  case COMPARE_EXCHANGE: return exchange(words[0], box->size, words[1], words[2]);
  default: return -1ul;
  }
}

void serve(void) {
  static const unsigned long yield[5];
  struct mailbox *box = &shared.box;
  for (;;) {
    unsigned int asked = box->asked;
    if (asked == box->answered) {
      hypercall(SCHED_OP, yield);
      continue;
    }
    box->result = carry_out(box);
    box->answered = asked;
  }
}
