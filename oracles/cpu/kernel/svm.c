/* Cases in an SVM guest, with and without nested paging. The host is in the paging mode that the case says, because nested
 * tables have the host's format; every exception of the guest is intercepted.
 * Source: AMD APM vol. 2, "Secure Virtual Machine", appendix "Layout of VMCB". */

#include "kernel.h"

#define MSR_EFER 0xc0000080
#define MSR_HSAVE 0xc0010117
#define EFER_SVME 0x1000
#define EFER_LMA 0x400
#define EFER_LME 0x100
#define CR0_PG 0x80000000U
#define CR0_WRITABLE 0x80010001
#define CR0_ALWAYS 0x30
#define CR4_PAE 0x20
#define CR4_LA57 0x1000

static void put8(u32 at, u8 value) {
  *(volatile u8 *)(u64)(VMCB + at) = value;
}

static void put32(u32 at, u32 value) {
  *(volatile u32 *)(u64)(VMCB + at) = value;
}

static void put64(u32 at, u64 value) {
  *(volatile u64 *)(u64)(VMCB + at) = value;
}

static u64 get64(u32 at) {
  return *(volatile u64 *)(u64)(VMCB + at);
}

static int present;

void svm_init(void) {
  u32 regs[4];
  cpuid(0x80000001, 0, regs);
  present = regs[2] >> 2 & 1;
  if (!present) return;
  wrmsr(MSR_EFER, rdmsr(MSR_EFER) | EFER_SVME);
  wrmsr(MSR_HSAVE, HSAVE);
}

/* A segment of the guest: selector, attributes, limit; base 0. */
static void segment(u32 at, u32 selector, u32 attributes) {
  put32(at, selector | attributes << 16);
  put32(at + 4, 0xffffffff);
  put64(at + 8, 0);
}

static void load_guest(const struct request *request) {
  u32 user = request->flags & FLAG_USER ? 3 : 0;
  int paged = (request->cr0 & CR0_PG) != 0;
  int wide = paged && (request->efer & EFER_LME);
  for (u32 at = 0; at < 0x1000; at += 8) put64(at, 0);
  put32(0x008, 0xffffffff);   /* all exceptions */
  put32(0x00c, 0x80000000);   /* shutdown */
  put32(0x010, 1);            /* VMRUN */
  put32(0x058, 1);            /* ASID */
  put8(0x05c, 1);             /* flush everything */
  put64(0x090, request->vehicle == SVM_NESTED);
  put64(0x0b0, request->nested);
  segment(0x400, 0x2b, 0xcf3);
  segment(0x410, 8 | user, (wide ? 0xa9b : 0xc9b) | user << 5);
  segment(0x420, 0x10 | user, 0xc93 | user << 5);
  segment(0x430, 0x2b, 0xcf3);
  segment(0x440, 0, 0);
  segment(0x450, 0, 0);
  put8(0x4cb, (u8)user);
  put64(0x4d0, request->efer | EFER_SVME | (wide ? EFER_LMA : 0));
  put64(0x548, request->cr4);
  if (request->flags & FLAG_LATCHED) load_latched(request);
  put64(0x550, request->flags & FLAG_LATCHED ? LATCHED : request->cr3);
  put64(0x558, (request->cr0 & CR0_WRITABLE) | CR0_ALWAYS);
  put64(0x560, 0x400);
  put64(0x568, 0xffff0ff0);
  put64(0x570, world.rflags);
  put64(0x578, world.rip);
  put64(0x5f8, world.rax);
  put64(0x668, 0x0007040600070406UL);
}

static u32 host_root(const struct world *host) {
  if (host->efer & EFER_LME) return (host->cr4 & CR4_LA57) ? HOST_PML5 : HOST_PML4;
  return (host->cr4 & CR4_PAE) ? HOST_PDPT_PAE : HOST_PD_32;
}

void run_svm(const struct request *request, struct reply *reply) {
  reply->answer = REFUSED;
  reply->code = 6;
  if (!present) return;
  load_processor(request);
  load_guest(request);
  window_key(0);
  int nested = request->vehicle == SVM_NESTED;
  world.flags |= FLAG_VMRUN;
  world.cr0 = (nested ? request->host_cr0 & CR0_WRITABLE : 0x80010001) | CR0_ALWAYS;
  world.cr4 = nested ? request->host_cr4 : CR4_PAE;
  world.efer = (nested ? request->host_efer : 0x900) | EFER_SVME;
  world.entry = host_root(&world);
  world.cr3 = world.entry;
  enter();
  if (out.stage != STAGE_EXIT) {
    reply->code = out.vector;
    reply->rip = out.rip;
    return;
  }
  reply->answer = SVM_EXIT;
  reply->code = (u32)get64(0x070);
  reply->event = (u32)get64(0x088);
  reply->info1 = get64(0x078);
  reply->info2 = get64(0x080);
  reply->rip = get64(0x578);
  reply->value = (request->flags & FLAG_MMX) ? out.mm : get64(0x5f8);
}
