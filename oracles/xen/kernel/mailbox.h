// Where the guest is asked and answers. The host knows these numbers as well (../mailbox.ts).
#ifndef MAILBOX_H
#define MAILBOX_H

#define MAILBOX_MAGIC 0x786f626c69616d52 // "Rmailbox"
#define ARGUMENT_FRAMES 4
#define STACK_BYTES 4096

#ifndef __ASSEMBLER__

enum { HYPERCALL = 1, LOAD = 2, STORE = 3, COMPARE_EXCHANGE = 4 };

// One request at a time: the host writes it, then its number into `asked`; the guest writes `result`, then the number into `answered`.
struct mailbox {
  unsigned long magic;
  volatile unsigned int asked, answered;
  unsigned int kind, size;
  unsigned long words[6];
  unsigned long result;
};

#endif
#endif
