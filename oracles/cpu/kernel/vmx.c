/* Cases in a VMX guest with EPT. The host is the kernel's own world; every exception of the guest ends in an exit.
 * Source: Intel SDM vol. 3C, "Virtual-Machine Control Structures"; vol. 3D, appendix "Field Encoding in VMCS". */

#include "kernel.h"

#define MSR_EFER 0xc0000080
#define MSR_FEATURE_CONTROL 0x3a
#define MSR_VMX_BASIC 0x480
#define CR4_VMXE 0x2000UL
#define CR0_PG 0x80000000U
#define CR0_WRITABLE 0x80010001
#define CR0_ALWAYS 0x30
#define EFER_LME 0x100UL
#define EFER_LMA 0x400UL

enum field {
  GUEST_ES = 0x800, GUEST_CS = 0x802, GUEST_SS = 0x804, GUEST_LDTR = 0x80c, GUEST_TR = 0x80e,
  HOST_CS = 0xc02, HOST_TR = 0xc0c,
  EPT_POINTER = 0x201a, GUEST_PHYSICAL = 0x2400, LINK_POINTER = 0x2800, GUEST_EFER = 0x2806, GUEST_PDPTE = 0x280a,
  HOST_EFER = 0x2c02,
  PIN_CONTROLS = 0x4000, PROCESSOR_CONTROLS = 0x4002, EXCEPTIONS = 0x4004, EXIT_CONTROLS = 0x400c,
  ENTRY_CONTROLS = 0x4012, SECONDARY_CONTROLS = 0x401e,
  EXIT_REASON = 0x4402, EXIT_EVENT = 0x4404, EXIT_ERROR = 0x4406,
  GUEST_LIMIT = 0x4800, GUEST_ACCESS = 0x4814,
  QUALIFICATION = 0x6400, GUEST_LINEAR = 0x640a,
  GUEST_CR0 = 0x6800, GUEST_CR3 = 0x6802, GUEST_CR4 = 0x6804, GUEST_BASE = 0x6806, GUEST_DR7 = 0x681a,
  GUEST_RIP = 0x681e, GUEST_RFLAGS = 0x6820,
  HOST_CR0 = 0x6c00, HOST_CR3 = 0x6c02, HOST_CR4 = 0x6c04, HOST_TR_BASE = 0x6c0a, HOST_GDTR = 0x6c0c,
  HOST_IDTR = 0x6c0e,
};

/* vmx.S: enters the guest with RAX and RBX of `world`; 0 after an exit, RAX and MM0 in `out`; 1 if there was no entry. */
extern u32 vmx_enter(u32 is_launched);
extern u64 gdt[], idt_64[];

static int present, on, launched;

static void put(u32 field, u64 value) {
  __asm__ volatile("vmwrite %0, %1" : : "r"(value), "r"((u64)field) : "cc");
}

static u64 get(u32 field) {
  u64 value = 0;
  __asm__ volatile("vmread %1, %0" : "=r"(value) : "r"((u64)field) : "cc");
  return value;
}

static u64 read_cr4(void) {
  u64 value;
  __asm__ volatile("mov %%cr4, %0" : "=r"(value));
  return value;
}

static void write_cr4(u64 value) {
  __asm__ volatile("mov %0, %%cr4" : : "r"(value));
}

/* `wanted` and what the processor insists on (Intel SDM vol. 3D, appendix "VMX Capability Reporting Facility"). */
static u32 adjusted(u32 msr, u32 wanted) {
  u64 allowed = rdmsr(msr);
  return (wanted | (u32)allowed) & (u32)(allowed >> 32);
}

void vmx_init(void) {
  u32 regs[4];
  cpuid(1, 0, regs);
  present = regs[2] >> 5 & 1;
  if (!present) return;
  if ((rdmsr(MSR_FEATURE_CONTROL) & 1) == 0) wrmsr(MSR_FEATURE_CONTROL, 5);
  *(volatile u32 *)VMXON_REGION = *(volatile u32 *)VMCS_REGION = (u32)rdmsr(MSR_VMX_BASIC);
}

/* What does not depend on cases. */
static void load_fixed(void) {
  put(PIN_CONTROLS, adjusted(0x481, 0));
  put(PROCESSOR_CONTROLS, adjusted(0x482, 1U << 31));
  put(EXCEPTIONS, 0xffffffff);
  put(EXIT_CONTROLS, adjusted(0x483, 1 << 9 | 1 << 20 | 1 << 21));
  put(LINK_POINTER, ~0UL);
  put(HOST_CS, CODE_64);
  for (u32 field = 0xc00; field < 0xc0c; field += 2)
    if (field != HOST_CS) put(field, DATA);
  put(HOST_TR, TSS_64);
  put(HOST_EFER, rdmsr(MSR_EFER));
  put(HOST_CR0, 0x80000031);
  put(HOST_CR3, HOST_PML4);
  put(HOST_CR4, read_cr4());
  put(HOST_GDTR, (u64)gdt);
  put(HOST_IDTR, (u64)idt_64);
  put(GUEST_DR7, 0x400);
  for (u32 i = 0; i < 10; i++) put(GUEST_LIMIT + 2 * i, i < 8 ? 0xffffffff : 0xffff);
  for (u32 i = 0; i < 6; i++) put(GUEST_ACCESS + 2 * i, i < 4 ? 0xc0f3 : 0x10000);
  put(GUEST_TR, TSS_64);
  put(GUEST_LIMIT + 14, 103);
  put(GUEST_ACCESS + 14, 0x8b);
  put(GUEST_LIMIT + 12, 15);
  for (u32 field = GUEST_ES; field < GUEST_LDTR; field += 2) put(field, USER_DATA);
}

static void vmx_on(void) {
  u64 region = VMXON_REGION;
  u64 control = VMCS_REGION;
  write_cr4(read_cr4() | CR4_VMXE);
  __asm__ volatile("vmxon %0" : : "m"(region) : "cc", "memory");
  __asm__ volatile("vmclear %0" : : "m"(control) : "cc", "memory");
  __asm__ volatile("vmptrld %0" : : "m"(control) : "cc", "memory");
  on = 1;
  launched = 0;
  load_fixed();
}

/* VMX operation forbids leaving paging, which other cases need. */
void vmx_leave(void) {
  if (!on) return;
  __asm__ volatile("vmxoff" : : : "cc", "memory");
  write_cr4(read_cr4() & ~CR4_VMXE);
  on = 0;
}

static void load_guest(const struct request *request) {
  u32 user = request->flags & FLAG_USER ? 3 : 0;
  int wide = (request->cr0 & CR0_PG) && (request->efer & EFER_LME);
  u32 enabled = 1 << 1 | 1 << 7 | request->controls; /* EPT, unrestricted guest */
  put(ENTRY_CONTROLS, adjusted(0x484, 1 << 15 | (wide ? 1 << 9 : 0)));
  put(SECONDARY_CONTROLS, enabled);
  put(EPT_POINTER, request->nested);
  for (u32 i = 0; i < 4; i++) put(GUEST_PDPTE + 2 * i, request->pdptes[i]);
  put(GUEST_EFER, request->efer | (wide ? EFER_LMA : 0));
  put(GUEST_CR0, (request->cr0 & CR0_WRITABLE) | CR0_ALWAYS);
  put(GUEST_CR3, request->cr3);
  put(GUEST_CR4, request->cr4 | CR4_VMXE);
  put(GUEST_CS, wide ? (user ? USER_CODE_64 : CODE_64) : (user ? USER_CODE_32 : CODE_32));
  put(GUEST_SS, user ? USER_DATA : DATA);
  put(GUEST_ACCESS + 2, (wide ? 0xa09b : 0xc09b) | user << 5);
  put(GUEST_ACCESS + 4, 0xc093 | user << 5);
  put(GUEST_LDTR, request->flags & FLAG_LDT ? LDT : 0);
  put(GUEST_ACCESS + 12, request->flags & FLAG_LDT ? 0x82 : 0x10000);
  put(GUEST_BASE + 12, request->linear);
  put(GUEST_RIP, world.rip);
  put(GUEST_RFLAGS, world.rflags);
}

void run_vmx(const struct request *request, struct reply *reply) {
  static const u64 everything[2];
  reply->answer = REFUSED;
  reply->code = 6;
  if (!present) return;
  if (!on) vmx_on();
  load_processor(request);
  load_guest(request);
  window_key(0);
  __asm__ volatile("invept %0, %1" : : "m"(everything), "r"(2UL) : "cc", "memory");
  if (vmx_enter(launched)) {
    reply->answer = VMX_REFUSED;
    reply->code = (u32)get(0x4400);
    return;
  }
  reply->answer = VMX_EXIT;
  reply->code = (u32)get(EXIT_REASON);
  if ((reply->code >> 31) == 0) launched = 1;
  u64 qualification = get(QUALIFICATION);
  int is_exception = (reply->code & 0xffff) == 0;
  reply->event = is_exception ? (u32)get(EXIT_EVENT) : 0;
  reply->info1 = is_exception ? get(EXIT_ERROR) : qualification;
  reply->info2 = is_exception ? qualification : get(GUEST_PHYSICAL);
  reply->linear = get(GUEST_LINEAR);
  reply->rip = get(GUEST_RIP);
  reply->value = (request->flags & FLAG_MMX) ? out.mm : out.rax;
}
