/* SPDX-License-Identifier: MIT */
/* look.h - how a process is looked at from outside.
 *
 *     the root table      always there; costs nothing; needs a kernel that lets the other read our memory
 *     the socket          only when asked for; answers whoever the kernel says is the same user, or root
 *
 * What exists when:
 *     by default               nothing: no thread, no descriptor, no file, no handler
 *     option look              from start on a thread that sleeps in poll, a pipe, and a listening socket
 *     option look_signal=N     from start on a handler for signal N, a pipe, and a thread that sleeps in poll
 *     signal N comes           the thread opens the socket; a minute after the last one has left it closes it again
 *     ALLOT_LOOK=off           nothing, whatever the options say; so in set-uid programs
 *
 * A thread can't be made in a signal handler, since pthread_create takes locks of libc's that the interrupted code may
 * hold. That is why one sleeps (decision 0010).
 *
 * The socket is PID.sock in a directory of mode 0700, XDG_RUNTIME_DIR/allot or /tmp/allot-UID. The thread blocks all
 * signals (but the one by which a collection stops threads), takes no memory from the heap, and reads the books without
 * a lock: nobody waits for it, and nothing that changes while it looks can do harm (heap/spans.c). One client after the
 * other is answered; one that doesn't read is dropped after a second.
 *
 * Fork.      A child has neither thread nor socket of its parent's: it closes the descriptors and begins its own, as
 * its own process number says. A child of _Fork or vfork has none.
 */
#ifndef LOOK_LOOK_H
#define LOOK_LOOK_H

/* Begins what the options ask for. From the constructor, after heap_start. */
void look_start(void);

/* Takes the socket away. From the destructor. */
void look_end(void);

#endif
