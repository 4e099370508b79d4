// From the loader (32-bit protected mode, no paging) to 64-bit C. The header is that of the Multiboot Specification 0.6.96,
// section 3.1, with addresses, because the file is flat.

#include "layout.h"

.section .boot, "ax"
.code32
.align 4
header:
  .long 0x1badb002, 0x00010000, -(0x1badb002 + 0x00010000)
  .long header, image_start, image_end, bss_end, start

.global start
start:
  cli
  cld
  movl %eax, %ebp
  movl $bss_start, %edi
  movl $bss_end, %ecx
  subl %edi, %ecx
  xorl %eax, %eax
  rep stosb
  movl $stack_top, %esp
  // The kernel's own tables: 64 MiB and a little more, one to one in pages of 2 MiB.
  movl $HOST_PML4, %edi
  movl $(6 * 1024), %ecx
  rep stosl
  movl $(HOST_PDPT + 3), HOST_PML4
  movl $(HOST_PD + 3), HOST_PDPT
  movl $HOST_PD, %edi
  movl $0x83, %eax
1: movl %eax, (%edi)
  addl $8, %edi
  addl $0x200000, %eax
  cmpl $(FRAMES_END + 0x200083), %eax
  jne 1b
  lgdt gdt_pointer
  movl $0x20, %eax
  movl %eax, %cr4
  movl $HOST_PML4, %eax
  movl %eax, %cr3
  movl $0xc0000080, %ecx
  rdmsr
  orl $0x900, %eax
  wrmsr
  movl $0x80000031, %eax
  movl %eax, %cr0
  ljmp $CODE_64, $start_64

.code64
start_64:
  movw $DATA, %ax
  movw %ax, %ds
  movw %ax, %es
  movw %ax, %ss
  movw %ax, %fs
  movw %ax, %gs
  movl %ebp, %edi
  call kernel_main
1: pause
  jmp 1b

.section .note.GNU-stack, "", @progbits
