/* What the kernel does: prepare the machine once, then carry out batches of cases. Under QEMU they come through a mailbox in
 * memory that the other side shares, under Bochs from a disk. */

#include "kernel.h"

struct mailbox {
  volatile u32 asked;  /* a number that changes when a batch is ready */
  volatile u32 answered; /* the same number when its results are */
  volatile u32 count;
  volatile u32 bytes; /* of all results */
  volatile u32 current; /* the case under way, for whoever finds the machine dead */
};

/* Carries out `count` cases; answers the bytes of their results. */
u32 run_batch(u32 count) {
  volatile struct mailbox *box = (struct mailbox *)MAILBOX;
  const struct request *request = (const struct request *)CASES;
  u8 *at = (u8 *)RESULTS;
  for (u32 i = 0; i < count; i++) {
    struct reply *reply = (struct reply *)at;
    box->current = i;
    for (u32 w = 0; w < sizeof *reply / 8; w++) ((u64 *)reply)[w] = 0;
    poke_all(request);
    if (request->vehicle != VMX) vmx_leave();
    if (request->vehicle == NATIVE) run_native(request, reply);
    else if (request->vehicle == VMX) run_vmx(request, reply);
    else run_svm(request, reply);
    find_hits(request, reply);
    undo_all(request, reply);
    reply->bytes = (u32)(sizeof *reply + 8UL * request->pokes);
    at += reply->bytes;
    request = (const struct request *)((const u8 *)request + request->bytes);
  }
  return (u32)(at - (u8 *)RESULTS);
}

/* Looks at the mailbox, often at first. */
#define EAGER_HERTZ 2000
#define LAZY_HERTZ 100
#define EAGER_NAPS 200
#define LAZY_NAPS (120 * LAZY_HERTZ)

/* Waits until a batch is asked for that is not number `last`. Whoever asked may be gone: after two minutes of nothing the machine
 * is switched off. */
static u32 next_batch(volatile struct mailbox *box, u32 last) {
  nap_hertz(EAGER_HERTZ);
  for (u32 idle = 0; box->asked == last; idle++) {
    if (idle == EAGER_NAPS) nap_hertz(LAZY_HERTZ);
    if (idle > LAZY_NAPS) outb(0xf4, 0);
    nap();
  }
  return box->asked;
}

void kernel_main(u32 loader) {
  volatile struct mailbox *box = (struct mailbox *)MAILBOX;
  tables_init();
  svm_init();
  vmx_init();
  frames_init();
  if (loader == FROM_ROM) disk_batch();
  nap_init();
  box->answered = 0xffffffff;
  for (u32 last = 0;;) {
    last = next_batch(box, last);
    box->bytes = run_batch(box->count);
    __asm__ volatile("" ::: "memory");
    box->answered = last;
  }
}
