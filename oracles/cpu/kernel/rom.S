// What stands at the reset vector of a machine without firmware (Bochs): to 32-bit protected mode and to the kernel, which
// has been put at 1 MiB already. 64 KiB, of which the last 16 bytes are the vector.
// Source: Intel SDM vol. 3A, "Processor Management and Initialization", first instruction executed.

#include "layout.h"

.section .rom, "ax"
.code16
begin:
  cli
  lgdtl %cs:(pointer - begin)
  movl %cr0, %eax
  orl $1, %eax
  movl %eax, %cr0
  ljmpl $CODE_32, $(0xffff0000 + protected - begin)
.code32
protected:
  movl $DATA, %eax
  movl %eax, %ds
  movl %eax, %es
  movl %eax, %ss
  movl $0x100000, %ebx
  // The entry address is the last field of the header at the start of the kernel.
  movl 28(%ebx), %ebx
  movl $FROM_ROM, %eax
  jmp *%ebx
.balign 8
descriptors:
  .quad 0, 0
  .quad 0x00cf93000000ffff
  .quad 0x00cf9b000000ffff
pointer:
  .word . - descriptors - 1
  .long 0xffff0000 + descriptors - begin

.section .reset, "ax"
.code16
  .byte 0xe9
  .word begin_offset - (0xfff0 + 3)
  .balign 16, 0

.section .note.GNU-stack, "", @progbits
