/* Cases on the processor itself: the kernel goes to the case's paging mode and does the access there. */

#include "kernel.h"

#define CR0_WRITABLE 0x80010001 /* PE, WP, PG */
#define CR0_ALWAYS 0x30         /* ET, NE; and EM and TS are clear, for MOVQ */
#define EFER_LME 0x100
#define CR4_LA57 0x1000
#define CR4_PCIDE 0x20000
#define CR4_PKS 0x1000000

static u32 features(void) {
  static u32 known = 1U << 31;
  if (known >> 31) {
    u32 regs[4];
    known = 0;
    cpuid(0, 0, regs);
    if (regs[0] < 7) return known;
    cpuid(7, 0, regs);
    if (regs[2] >> 3 & 1) known |= FEATURE_PKU;
    if (regs[2] >> 31) known |= FEATURE_PKS;
  }
  return known;
}

/* What does not depend on the world: the access, and protection keys, which virtual machines inherit. */
void load_processor(const struct request *request) {
  world.pkru = request->pkru;
  world.pkrs = request->pkrs;
  world.features = features();
  world.flags = request->flags;
  world.rip = ((request->flags & FLAG_USER) ? STUBS_USER : STUBS) + STUB_BYTES * request->stub;
  if (request->flags & FLAG_DIRECT) world.rip = request->linear;
  world.rflags = 2 | ((request->flags & FLAG_AC) ? 1UL << 18 : 0);
  world.rbx = request->linear;
  world.rax = MAGIC;
  descriptors(request->linear);
}

/* Where CR3 finds the PDPTEs that the case says are latched. */
void load_latched(const struct request *request) {
  for (u32 i = 0; i < 4; i++) ((volatile u64 *)LATCHED)[i] = request->pdptes[i];
}

void run_native(const struct request *request, struct reply *reply) {
  load_processor(request);
  world.cr0 = (request->cr0 & CR0_WRITABLE) | CR0_ALWAYS;
  world.cr4 = request->cr4;
  world.cr3 = request->cr3;
  world.efer = request->efer;
  world.entry = (u32)request->cr3 & ((request->cr4 & CR4_PCIDE) ? ~0xfffU : ~0U);
  if (request->cr3 >> 32) world.entry = (request->cr4 & CR4_LA57) ? HOST_PML5 : HOST_PML4;
  if (request->flags & FLAG_LATCHED) {
    load_latched(request);
    world.cr3 = world.entry = LATCHED;
  }
  window_key((request->efer & EFER_LME) && (request->cr4 & CR4_PKS) ? request->pkrs : 0);
  enter();
  reply->answer = out.stage == STAGE_ACCESS ? EXCEPTION : REFUSED;
  reply->code = out.vector;
  reply->info1 = out.error;
  reply->info2 = out.cr2;
  reply->rip = out.rip;
  reply->value = (request->flags & FLAG_MMX) ? out.mm : out.rax;
}
