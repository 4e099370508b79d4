/* Tables that lead to the window, descriptor tables, and the instructions of the accesses.
 * Sources: Intel SDM vol. 3A, "Paging", "Segment Descriptors", "Task-State Segment"; vol. 3C, "EPT Translation Mechanism". */

#include "kernel.h"

#define PRESENT 1UL
#define WRITE 2UL
#define USER 4UL
#define ACCESSED 0x20UL
#define DIRTY 0x40UL

/* Accessed and dirty are set beforehand, so that the kernel's own accesses change nothing. */
#define PATH (PRESENT | WRITE | USER | ACCESSED)
#define LEAF (PATH | DIRTY)
#define EPT_PATH 0x507UL /* R W X, accessed, user-mode execute */
#define EPT_LEAF 0x737UL /* and dirty, write-back */

extern u8 stubs[], stubs_end[];
extern u8 entries_64[], entries_32[];
extern u64 gdt[], idt_64[], idt_32[];
extern u8 trap_stack_top[];

static u32 tss_64[26];
static u32 tss_32[26];

static void set(u64 table, u32 index, u64 value) {
  ((volatile u64 *)table)[index] = value;
}

static void set32(u64 table, u32 index, u32 value) {
  ((volatile u32 *)table)[index] = value;
}

/* The window one to one, its frames for the supervisor only but for one. */
static void window(void) {
  for (u32 i = 0; i < 512; i++) {
    u64 frame = i * 0x1000UL;
    u64 user = frame == STUBS_USER ? USER : 0;
    set(PT_64, i, frame | (LEAF & ~USER) | user);
    set32(PT_32, i, (u32)(frame | (LEAF & ~USER) | user));
    /* Nested accesses are user accesses. */
    set(NPT_1, i, frame | LEAF);
    set32(NPT_1_32, i, (u32)(frame | LEAF));
    set(EPT_1, i, frame | EPT_LEAF);
  }
}

void tables_init(void) {
  window();
  set(PD_64, 0, PT_64 | PATH);
  set(PDPT_64, 0, PD_64 | PATH);
  set(PML4_64, 0, PDPT_64 | PATH);
  set(NPT_2, 0, NPT_1 | PATH);
  set(NPT_3, 0, NPT_2 | PATH);
  set(NPT_4, 0, NPT_3 | PATH);
  set(EPT_2, 0, EPT_1 | EPT_PATH);
  set(EPT_3, 0, EPT_2 | EPT_PATH);
  set(EPT_4, 0, EPT_3 | EPT_PATH);
  set(HOST_PML5, 0, HOST_PML4 | PATH);
  set(HOST_PDPT_PAE, 0, HOST_PD | PRESENT);
  set32(HOST_PD_32, 0, (u32)(PT_32 | PATH));
  for (u64 i = 0; i < (u64)(stubs_end - stubs); i++)
    ((volatile u8 *)STUBS)[i] = ((volatile u8 *)STUBS_USER)[i] = stubs[i];

  for (u32 i = 0; i < 32; i++) {
    u64 at = (u64)entries_64 + 16 * i;
    idt_64[2 * i] = (at & 0xffff) | (u64)CODE_64 << 16 | 0x8e00UL << 32 | (at >> 16 & 0xffff) << 48;
    idt_64[2 * i + 1] = 0;
    at = (u64)entries_32 + 16 * i;
    idt_32[i] = (at & 0xffff) | (u64)CODE_32 << 16 | 0x8e00UL << 32 | (at >> 16 & 0xffff) << 48;
  }
  tss_64[1] = (u32)(u64)trap_stack_top;
  tss_32[1] = (u32)(u64)trap_stack_top;
  tss_32[2] = DATA;
}

/* A system descriptor: base below 4 GiB. */
static u64 descriptor(u64 base, u32 limit, u32 type) {
  return (limit & 0xffff) | (base & 0xffffff) << 16 | (u64)type << 40 | (base >> 24 & 0xff) << 56;
}

/* Task states become available again; the local descriptor table is put at `linear`. */
void descriptors(u64 linear) {
  gdt[TSS_64 / 8] = descriptor((u64)tss_64, 103, 0x89);
  gdt[TSS_64 / 8 + 1] = 0;
  gdt[TSS_32 / 8] = descriptor((u64)tss_32, 103, 0x89);
  gdt[LDT / 8] = descriptor(linear, 15, 0x82);
  gdt[LDT / 8 + 1] = linear >> 32;
}

/* Gives the window the first key that `pkrs` lets supervisor data through. Where there are no keys, `pkrs` must be 0: their bits
 * are reserved in PAE entries. */
void window_key(u32 pkrs) {
  static u32 current;
  u32 key = 0;
  while (key < 15 && (pkrs >> 2 * key & 3) != 0) key++;
  if (key == current) return;
  current = key;
  for (u32 i = 0x100; i < STUBS_USER / 0x1000 + 8; i++) {
    volatile u64 *entry = (volatile u64 *)PT_64 + i;
    *entry = (*entry & ~(0xfUL << 59)) | (u64)key << 59;
  }
}
