// A pause between two looks at the mailbox, half a millisecond or ten: HLT until the timer interrupts, so that an idle emulator
// leaves the host's processors to others. Interrupts are on only here, under a descriptor table of their own.
// Sources: data sheets of the Intel 8254 (mode 2) and 8259A (OCW1, OCW2). The firmware has put interrupt 0 at vector 8.

#include "layout.h"

#define PIT_HZ 1193182

.text
.code64
.global nap_init, nap_hertz, nap
// The number of interrupts a second is in EDI.
nap_hertz:
  movb $0x34, %al
  outb %al, $0x43
  movl $PIT_HZ, %eax
  xorl %edx, %edx
  divl %edi
  outb %al, $0x40
  movb %ah, %al
  outb %al, $0x40
  ret

nap_init:
  movb $0xfe, %al
  outb %al, $0x21
  movb $0xff, %al
  outb %al, $0xa1
  movl $tick, %eax
  movw %ax, idt_nap + 8 * 16
  movw $CODE_64, idt_nap + 8 * 16 + 2
  movw $0x8e00, idt_nap + 8 * 16 + 4
  shrl $16, %eax
  movw %ax, idt_nap + 8 * 16 + 6
  ret

nap:
  lidt idt_nap_pointer
  sti
  hlt
  cli
  ret

tick:
  pushq %rax
  movb $0x20, %al
  outb %al, $0x20
  popq %rax
  iretq

.data
.balign 8
idt_nap_pointer:
  .word 9 * 16 - 1
  .quad idt_nap

.bss
.balign 16
idt_nap: .skip 9 * 16

.section .note.GNU-stack, "", @progbits
