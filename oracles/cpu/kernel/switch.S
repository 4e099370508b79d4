// Into the world of a case and back. Every way leads through protected mode without paging, which is the one state that all
// paging modes can be reached from (Intel SDM vol. 3A, "Mode Switching"; "Initializing IA-32e Mode").
// What happens in the world ends with an exception, which the handlers below write down, or with #VMEXIT.

#include "layout.h"

#define LEAVE_PAGING (~0x80000000)
#define EFER 0xc0000080
#define PKRS 0x6e1
#define CR4_PAE 0x20
#define CR4_PCIDE 0x20000
#define CR4_PKE 0x400000
#define CR4_PKS 0x1000000

.text
.code64
.global enter
enter:
  pushq %rbx
  pushq %rbp
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, saved_rsp
  movq %cr4, %rax
  movl %eax, saved_cr4
  movl $EFER, %ecx
  rdmsr
  movl %eax, saved_efer
  movl $STAGE_ENTER, out + O_STAGE
  // A guest finds RBX as it is, all 64 bits of it, even if its host has 32: it is not touched on the way.
  movq world + W_RBX, %rbx
  // So is the place of the local descriptor table. Some processors refuse places that they have no address bits for.
  lidt idt_64_pointer
  testl $FLAG_LDT, world + W_FLAGS
  jz 1f
  movl $LDT, %eax
  lldt %ax
1: pushq $CODE_32
  pushq $enter_32
  lretq

.code32
enter_32:
  movl $DATA, %eax
  movl %eax, %ds
  movl %eax, %es
  movl %eax, %ss
  movl %cr0, %eax
  andl $LEAVE_PAGING, %eax
  movl %eax, %cr0
  lidt idt_32_pointer
  // Protection keys are written while the features are on, whatever the world says about them.
  movl world + W_FEATURES, %esi
  testl $FEATURE_PKU, %esi
  jz 1f
  movl $(CR4_PAE + CR4_PKE), %eax
  movl %eax, %cr4
  movl world + W_PKRU, %eax
  xorl %ecx, %ecx
  xorl %edx, %edx
  wrpkru
1: testl $FEATURE_PKS, %esi
  jz 2f
  movl $PKRS, %ecx
  movl world + W_PKRS, %eax
  xorl %edx, %edx
  wrmsr
2: movl $EFER, %ecx
  movl world + W_EFER, %eax
  xorl %edx, %edx
  wrmsr
  movl world + W_CR4, %eax
  andl $(~CR4_PCIDE), %eax
  movl %eax, %cr4
  movl world + W_ENTRY, %eax
  movl %eax, %cr3
  movl world + W_CR0, %eax
  movl %eax, %cr0
  // In the world. Is it in long mode?
  testl $0x80000000, %eax
  jz 4f
  testl $0x100, world + W_EFER
  jz 4f
  ljmp $CODE_64, $enter_64
4: testl $FLAG_VMRUN, world + W_FLAGS
  jnz vmrun_32
  movl $STAGE_ACCESS, out + O_STAGE
  movl $4, %ecx
  testl $FLAG_USER, world + W_FLAGS
  jnz 6f
  pushl world + W_RFLAGS
  popfl
  movl world + W_RAX, %eax
  jmp *world + W_RIP
6: movl $TSS_32, %eax
  ltr %ax
  movl $USER_DATA, %eax
  movl %eax, %ds
  movl %eax, %es
  pushl %eax
  pushl $0
  pushl world + W_RFLAGS
  pushl $USER_CODE_32
  pushl world + W_RIP
  movl world + W_RAX, %eax
  iretl

vmrun_32:
  movl $4, %ecx
  movl $VMCB, %eax
  vmrun
  stgi
  movl $STAGE_EXIT, out + O_STAGE
  jmp leave_32

.code64
enter_64:
  lidt idt_64_pointer
  lgdt gdt_pointer
  movl world + W_CR4, %eax
  testl $CR4_PCIDE, %eax
  jz 1f
  movq %rax, %cr4
1: testl $FLAG_VMRUN, world + W_FLAGS
  jnz 2f
  movq world + W_CR3, %rax
  movq %rax, %cr3
2: movl $4, %ecx
  testl $FLAG_VMRUN, world + W_FLAGS
  jnz vmrun_64
  movl $STAGE_ACCESS, out + O_STAGE
  testl $FLAG_USER, world + W_FLAGS
  jnz 4f
  pushq world + W_RFLAGS
  popfq
  movq world + W_RAX, %rax
  jmp *world + W_RIP
4: movl $TSS_64, %eax
  ltr %ax
  pushq $USER_DATA
  pushq $0
  pushq world + W_RFLAGS
  pushq $USER_CODE_64
  pushq world + W_RIP
  movq world + W_RAX, %rax
  iretq

vmrun_64:
  movl $VMCB, %eax
  vmrun
  stgi
  movl $STAGE_EXIT, out + O_STAGE
  jmp leave_64

// The handlers. On the stack: vector, error code, instruction pointer.
handled_64:
  movq %rax, out + O_RAX
  popq %rax
  movl %eax, out + O_VECTOR
  popq %rax
  movq %rax, out + O_ERROR
  popq %rax
  movq %rax, out + O_RIP
  movq %cr2, %rax
  movq %rax, out + O_CR2
leave_64:
  movq %cr4, %rax
  testl $CR4_PCIDE, %eax
  jz 1f
  andl $(~CR4_PCIDE), %eax
  movq %rax, %cr4
1: movq saved_rsp, %rsp
  pushq $CODE_32
  pushq $leave_32
  lretq

.code32
handled_32:
  movl %eax, out + O_RAX
  movl $0, out + O_RAX + 4
  movl $DATA, %eax
  movl %eax, %ds
  movl %eax, %es
  movl %eax, %ss
  popl %eax
  movl %eax, out + O_VECTOR
  popl %eax
  movl %eax, out + O_ERROR
  movl $0, out + O_ERROR + 4
  popl %eax
  movl %eax, out + O_RIP
  movl $0, out + O_RIP + 4
  movl %cr2, %eax
  movl %eax, out + O_CR2
  movl $0, out + O_CR2 + 4
leave_32:
  movl $DATA, %eax
  movl %eax, %ds
  movl %eax, %es
  movl %eax, %ss
  movl %cr0, %eax
  andl $LEAVE_PAGING, %eax
  movl %eax, %cr0
  testl $FLAG_MMX, world + W_FLAGS
  jz 1f
  movq %mm0, out + O_MM
1: movl saved_cr4, %eax
  movl %eax, %cr4
  movl $HOST_PML4, %eax
  movl %eax, %cr3
  movl $EFER, %ecx
  movl saved_efer, %eax
  xorl %edx, %edx
  wrmsr
  movl $0x80000031, %eax
  movl %eax, %cr0
  ljmp $CODE_64, $left

.code64
left:
  movq saved_rsp, %rsp
  movl $DATA, %eax
  movl %eax, %ds
  movl %eax, %es
  movl %eax, %ss
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbp
  popq %rbx
  ret

// One entry point per vector and width. Vectors 8, 10-14, 17, 21, 29 and 30 bring an error code of their own.
.macro entry64 n
.if !((\n == 8) || ((\n >= 10) && (\n <= 14)) || (\n == 17) || (\n == 21) || (\n == 29) || (\n == 30))
  pushq $0
.endif
  pushq $\n
  jmp handled_64
.endm
.macro entry32 n
.if !((\n == 8) || ((\n >= 10) && (\n <= 14)) || (\n == 17) || (\n == 21) || (\n == 29) || (\n == 30))
  pushl $0
.endif
  pushl $\n
  jmp handled_32
.endm

.global entries_64, entries_32
.code64
.balign 16
entries_64:
.altmacro
.macro all64 n=0
.balign 16
  entry64 %\n
.if \n < 31
  all64 %(\n + 1)
.endif
.endm
  all64
.code32
.balign 16
entries_32:
.macro all32 n=0
.balign 16
  entry32 %\n
.if \n < 31
  all32 %(\n + 1)
.endif
.endm
  all32
.noaltmacro

.data
.balign 16
.global gdt, gdt_pointer, idt_64_pointer, idt_32_pointer
gdt:
  .quad 0
  .quad 0x00af9b000000ffff // 08: 64-bit code
  .quad 0x00cf93000000ffff // 10: data
  .quad 0x00cf9b000000ffff // 18: 32-bit code
  .quad 0x00cffb000000ffff // 20: 32-bit user code
  .quad 0x00cff3000000ffff // 28: user data
  .quad 0x00affb000000ffff // 30: 64-bit user code
  .quad 0, 0 // 38: 64-bit task state
  .quad 0 // 48: 32-bit task state
  .quad 0, 0 // 50: local descriptor table
gdt_end:
// A pointer read by 32-bit code uses the first six bytes of it.
gdt_pointer:
  .word gdt_end - gdt - 1
  .quad gdt
idt_64_pointer:
  .word 32 * 16 - 1
  .quad idt_64
idt_32_pointer:
  .word 32 * 8 - 1
  .quad idt_32

.bss
.balign 16
.global idt_64, idt_32, stack_top, trap_stack_top, world, out, saved_cr4
idt_64: .skip 32 * 16
idt_32: .skip 32 * 8
.balign 8
world: .skip 80
out: .skip 48
saved_rsp: .skip 8
saved_cr4: .skip 4
saved_efer: .skip 4
.balign 4096
  .skip 12288
stack_top:
  .skip 4096
trap_stack_top:

.section .note.GNU-stack, "", @progbits
