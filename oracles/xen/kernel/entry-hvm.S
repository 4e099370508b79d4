// A PVH domain starts here, in long mode with flat segments on tables that the host has written: its first
// instruction follows the mailbox and its arguments. Source: Xen public/arch-x86/xen-x86_64.h (hypercalls), AMD64 APM vol. 3, VMMCALL.

#include "mailbox.h"

.section .boot, "ax"
.global start
start:
  cld
  leaq stack_top(%rip), %rsp
  call serve

// unsigned long hypercall(number, words[5])
.text
.global hypercall
hypercall:
  pushq %rbx
  movq %rdi, %rax
  movq %rsi, %rbx
  movq 0(%rbx), %rdi
  movq 8(%rbx), %rsi
  movq 16(%rbx), %rdx
  movq 24(%rbx), %r10
  movq 32(%rbx), %r8
  vmmcall
  popq %rbx
  ret

.bss
.align 16
.skip STACK_BYTES
stack_top:

.section .note.GNU-stack, "", @progbits
