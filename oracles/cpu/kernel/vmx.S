// Into a VMX guest and back. What the guest may have changed of the general registers is RAX; RBX keeps the linear address.

#include "layout.h"

#define HOST_RSP 0x6c14
#define HOST_RIP 0x6c16

.text
.code64
.global vmx_enter
vmx_enter:
  pushq %rbx
  pushq %rbp
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movl $HOST_RSP, %edx
  vmwrite %rsp, %rdx
  movl $HOST_RIP, %edx
  movl $vmx_left, %eax
  vmwrite %rax, %rdx
  movq world + W_RBX, %rbx
  movq world + W_RAX, %rax
  movl $4, %ecx
  testl %edi, %edi
  jnz 1f
  vmlaunch
  jmp 2f
1: vmresume
2: movl $1, %eax
  jmp 3f
vmx_left:
  movq %rax, out + O_RAX
  movq %mm0, out + O_MM
  xorl %eax, %eax
3: popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbp
  popq %rbx
  ret

.section .note.GNU-stack, "", @progbits
