// The accesses: RBX is the linear address, RAX what is written and then what was read. The encodings mean the same in 32-bit
// and 64-bit code (those with REX.W are used in 64-bit code only). The first byte does nothing: a fault on it means that the
// window was out of reach, not that the access failed. Each ends with an undefined opcode, which is the sign of success.
// Numbers as in wire.ts.

#include "layout.h"

.section .rodata
.global stubs, stubs_end
.balign STUB_BYTES
stubs:
.macro stub bytes:vararg
  .balign STUB_BYTES
  .byte 0x90, \bytes, 0x0f, 0x0b
.endm
  stub 0x8a, 0x03 // 0: read 1 byte
  stub 0x66, 0x8b, 0x03
  stub 0x8b, 0x03
  stub 0x48, 0x8b, 0x03
  stub 0x88, 0x03 // 4: write 1 byte
  stub 0x66, 0x89, 0x03
  stub 0x89, 0x03
  stub 0x48, 0x89, 0x03
  stub 0x86, 0x03 // 8: exchange 1 byte
  stub 0x66, 0x87, 0x03
  stub 0x87, 0x03
  stub 0x48, 0x87, 0x03
  stub 0xff, 0xe3 // 12: jump
  stub 0x0f, 0x6f, 0x03 // 13: read 8 bytes in 32-bit code (MOVQ)
  stub 0x0f, 0x7f, 0x03 // 14: write 8 bytes in 32-bit code
  stub 0x0f, 0x02, 0xc1 // 15: read a descriptor (LAR), which is an implicit supervisor access
.balign STUB_BYTES
stubs_end:

.section .note.GNU-stack, "", @progbits
