// Where a domain starts, in long mode with flat segments. PVH: on tables that the host has written; its first instruction follows
// the mailbox and its arguments. PV (built with -DPV): on tables that Xen has built; the notes tell Xen's loader so.
// Source: Xen public/elfnote.h; public/arch-x86/xen-x86_64.h (hypercalls); AMD64 APM vol. 3, VMMCALL, SYSCALL.

#include "mailbox.h"

#ifdef PV
#define HYPERCALL syscall

.macro note type, words:vararg
  .align 4
  .long 4, 2f - 1f, \type
  .asciz "Xen"
1: \words
2: .align 4
.endm

.section .note.Xen, "a", @note
  note 6, .asciz "ringfence"
  note 5, .asciz "xen-3.0"
  note 8, .asciz "generic"
  note 3, .quad image_start
  note 4, .quad image_start
  note 1, .quad start
#else
#define HYPERCALL vmmcall
#endif

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
  HYPERCALL
  popq %rbx
  ret

.bss
.align 16
.skip STACK_BYTES
stack_top:

.section .note.GNU-stack, "", @progbits
