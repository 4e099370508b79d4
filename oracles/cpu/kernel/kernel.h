/* Types and functions that the files of the kernel share. */

#include "layout.h"

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long u64;

/* How a case is carried out. Numbers as in wire.ts. */
enum vehicle { NATIVE = 0, SVM = 1, SVM_NESTED = 2, VMX = 3 };

struct poke {
  u64 address;
  u64 value;
};

/* A case as it arrives; pokes, then hints (frames that a write may have hit) follow. */
struct request {
  u32 bytes;
  u32 vehicle;
  u32 cr0;
  u32 cr4;
  u64 cr3;
  u32 efer;
  u32 pkru;
  u32 pkrs;
  u32 stub;
  u32 flags;
  u32 size;
  u64 linear;
  u64 nested;
  u32 host_cr0;
  u32 host_cr4;
  u32 host_efer;
  u32 controls;
  u64 pdptes[4];
  u32 pokes;
  u32 hints;
  u64 spare;
  struct poke poke[];
};

/* How a case's processor answers; the value of every poked word follows. */
enum answer { EXCEPTION = 1, REFUSED = 2, SVM_EXIT = 3, VMX_EXIT = 4, VMX_REFUSED = 5 };

struct reply {
  u32 bytes;
  u32 answer;
  u32 code;
  u32 event;
  u64 info1;
  u64 info2;
  u64 linear;
  u64 rip;
  u64 value;
  u64 hit[2];
  u64 spare;
  u64 after[];
};

/* The registers of the world that `enter` goes to, and what it does there. Offsets in layout.h. */
struct world {
  u32 cr0;
  u32 cr4;
  u64 cr3;
  u32 efer;
  u32 pkru;
  u32 pkrs;
  u32 flags;
  u64 rip;
  u64 rflags;
  u64 rbx;
  u64 rax;
  u32 features;
  /* CR3 while the way in is still 32 bits wide; cr3 follows in long mode. */
  u32 entry;
};

struct out {
  u32 stage;
  u32 vector;
  u64 error;
  u64 cr2;
  u64 rip;
  u64 rax;
  u64 mm;
};

extern struct world world;
extern struct out out;
/* switch.S: goes to `world`, acts, comes back; `out` tells. */
extern void enter(void);

/* What a successful write leaves behind. */
#define MAGIC 0x5ac3966996c35a69UL

static inline void cpuid(u32 leaf, u32 sub, u32 *regs) {
  __asm__ volatile("cpuid" : "=a"(regs[0]), "=b"(regs[1]), "=c"(regs[2]), "=d"(regs[3]) : "a"(leaf), "c"(sub));
}

static inline u64 rdmsr(u32 msr) {
  u32 lo, hi;
  __asm__ volatile("rdmsr" : "=a"(lo), "=d"(hi) : "c"(msr));
  return lo | (u64)hi << 32;
}

static inline void wrmsr(u32 msr, u64 value) {
  __asm__ volatile("wrmsr" : : "c"(msr), "a"((u32)value), "d"((u32)(value >> 32)) : "memory");
}

static inline void outb(u16 port, u8 value) {
  __asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port));
}

static inline u8 inb(u16 port) {
  u8 value;
  __asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
  return value;
}

/* tables.c */
void tables_init(void);
void window_key(u32 pkrs);
void descriptors(u64 linear);
/* native.c */
void run_native(const struct request *request, struct reply *reply);
void load_processor(const struct request *request);
void load_latched(const struct request *request);
/* svm.c */
void svm_init(void);
void run_svm(const struct request *request, struct reply *reply);
/* vmx.c */
void vmx_init(void);
void vmx_leave(void);
void run_vmx(const struct request *request, struct reply *reply);
/* frames.c */
void frames_init(void);
void poke_all(const struct request *request);
void find_hits(const struct request *request, struct reply *reply);
void undo_all(const struct request *request, struct reply *reply);
/* nap.S: a pause without burning the host's time; needs a PIC and a PIT as a PC's firmware leaves them. */
void nap_init(void);
void nap_hertz(u32 hertz);
void nap(void);
/* disk.c */
void disk_batch(void);
