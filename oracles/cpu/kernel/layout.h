/* Where things lie in the machine's memory, for C, for the assembler, and (same numbers) for route.ts and wire.ts.
 *
 *   0x00100000  this kernel, its stack and its data
 *   0x00180000  tables that cases lead their slot 0 to, then tables of the kernel's own worlds
 *   0x001a0000  the instructions that do the access; control blocks of virtual machines
 *   0x00400000  mailbox: what to do, and whether it is done
 *   0x00401000  cases             0x00b00000  results
 *   0x01000000  frames of the cases, up to 0x04000000
 *
 * Everything that runs while a case's tables are in force lies below 2 MiB: the window. */

#define WINDOW 0x200000

#define TABLE(n) (0x180000 + (n) * 0x1000)

/* Entry 0 of each leads to the table before it; the first maps the window. */
#define PT_64 TABLE(0)
#define PD_64 TABLE(1)
#define PDPT_64 TABLE(2)
#define PML4_64 TABLE(3)
#define PT_32 TABLE(4)
#define NPT_1 TABLE(5)
#define NPT_2 TABLE(6)
#define NPT_3 TABLE(7)
#define NPT_4 TABLE(8)
#define NPT_1_32 TABLE(9)
#define EPT_1 TABLE(10)
#define EPT_2 TABLE(11)
#define EPT_3 TABLE(12)
#define EPT_4 TABLE(13)
/* Four page-directory-pointer entries that a case says are latched. */
#define LATCHED TABLE(14)

/* Roots of the worlds that the kernel itself lives in. */
#define HOST_PML4 TABLE(16)
#define HOST_PDPT TABLE(17)
#define HOST_PD TABLE(18)
#define HOST_PML5 TABLE(19)
#define HOST_PDPT_PAE TABLE(20)
#define HOST_PD_32 TABLE(21)

#define STUBS 0x1a0000
/* The same instructions where user mode may execute them. */
#define STUBS_USER 0x1a1000
#define STUB_BYTES 16

#define VMCB 0x1a2000
#define HSAVE 0x1a3000
#define VMXON_REGION 0x1a4000
#define VMCS_REGION 0x1a5000

#define MAILBOX 0x400000
#define CASES 0x401000
#define RESULTS 0xb00000

#define FRAMES_FROM 0x1000000
#define FRAMES_END 0x4000000

/* What the reset code of rom.S leaves in EAX; a multiboot loader leaves another number. */
#define FROM_ROM 0xb0c50001

/* Selectors. */
#define CODE_64 0x08
#define DATA 0x10
#define CODE_32 0x18
#define USER_CODE_32 0x23
#define USER_DATA 0x2b
#define USER_CODE_64 0x33
#define TSS_64 0x38
#define TSS_32 0x48
#define LDT 0x50

/* Fields of `world` and `out` (kernel.h), for the assembler. */
#define W_CR0 0
#define W_CR4 4
#define W_CR3 8
#define W_EFER 16
#define W_PKRU 20
#define W_PKRS 24
#define W_FLAGS 28
#define W_RIP 32
#define W_RFLAGS 40
#define W_RBX 48
#define W_RAX 56
#define W_FEATURES 64
#define W_ENTRY 68

#define O_STAGE 0
#define O_VECTOR 4
#define O_ERROR 8
#define O_CR2 16
#define O_RIP 24
#define O_RAX 32
#define O_MM 40

#define FLAG_USER 1
#define FLAG_AC 2
#define FLAG_LDT 4
#define FLAG_MMX 8
#define FLAG_LATCHED 16
#define FLAG_DIRECT 32
/* The world is a host that runs the virtual machine in VMCB. */
#define FLAG_VMRUN 0x100

#define FEATURE_PKU 1
#define FEATURE_PKS 2

#define STAGE_ENTER 1
#define STAGE_ACCESS 2
#define STAGE_EXIT 3
