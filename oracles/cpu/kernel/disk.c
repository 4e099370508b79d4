/* A batch from a disk and its results back to it, by programmed input and output (ATA/ATAPI-4, "READ SECTOR(S)",
 * "WRITE SECTOR(S)"). Sector 0: how many cases, sectors of cases, first sector of the results. */

#include "kernel.h"

#define DATA_PORT 0x1f0
#define COUNT_PORT 0x1f2
#define LBA_PORT 0x1f3
#define DEVICE_PORT 0x1f6
#define COMMAND_PORT 0x1f7
#define CONTROL_PORT 0x3f6

extern u32 run_batch(u32 count);

static void wait(u8 mask, u8 value) {
  while ((inb(COMMAND_PORT) & mask) != value) {
  }
}

static void command(u32 sector, u32 count, u8 code) {
  wait(0x80, 0);
  outb(DEVICE_PORT, 0xe0 | (sector >> 24 & 0xf));
  outb(COUNT_PORT, (u8)count);
  outb(LBA_PORT, (u8)sector);
  outb(LBA_PORT + 1, (u8)(sector >> 8));
  outb(LBA_PORT + 2, (u8)(sector >> 16));
  outb(COMMAND_PORT, code);
}

static void transfer(u32 sector, u32 count, u8 *at, int out) {
  while (count > 0) {
    u32 part = count > 128 ? 128 : count;
    command(sector, part, out ? 0x30 : 0x20);
    for (u32 i = 0; i < part; i++) {
      u64 words = 256;
      wait(0x88, 0x08);
      if (out) __asm__ volatile("rep outsw" : "+S"(at), "+c"(words) : "d"(DATA_PORT) : "memory");
      else __asm__ volatile("rep insw" : "+D"(at), "+c"(words) : "d"(DATA_PORT) : "memory");
    }
    sector += part;
    count -= part;
  }
}

void disk_batch(void) {
  static u32 head[128];
  outb(CONTROL_PORT, 2);
  transfer(0, 1, (u8 *)head, 0);
  transfer(1, head[1], (u8 *)CASES, 0);
  u32 bytes = run_batch(head[0]);
  transfer(head[2], (bytes + 511) / 512, (u8 *)RESULTS, 1);
  head[3] = bytes;
  transfer(0, 1, (u8 *)head, 1);
  command(0, 0, 0xe7);
  wait(0x80, 0);
  for (const char *word = "Shutdown"; *word; word++) __asm__ volatile("outb %0, %1" : : "a"(*word), "d"((u16)0x8900));
  for (;;) __asm__ volatile("pause");
}
