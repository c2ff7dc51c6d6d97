/*
 * What a worker's parent does for it, and decides for it.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VV_OVERSEE_H
#define VV_OVERSEE_H

#include "base/types.h"

/* From the owner, on the control socket: so many forks has the next request. vfio_verify/worker/process.py has the same. */
struct vv_grant { int64_t kind; u64 forks; };

/* In the worker, before its list of system calls: forks wait for an answer from now on. A descriptor, or -1. */
int vv_oversee_install(void);
int vv_oversee_hand_over(int socket, int listener);     /* -1: there is none. 0 or -1 */

/* Later: where to ask for what cannot be opened. And a descriptor of what /proc says of a thread of this process, or
 * -1: a sandbox grants no directory of /proc, under which the host's network and mounts can be read as well. */
void vv_oversee_by(int socket);
int vv_oversee_stat(pid_t thread);

/* In its parent: the listener, or -1. Waits until it is sent, or the worker's end of the socket is closed. */
int vv_oversee_take_over(int socket);

/* Answer until the worker has ended. Of a fork that nobody was granted, in a request that has some, `tell` is called:
 * somebody else took them. */
typedef void vv_oversee_tell(int control, pid_t worker);
void vv_oversee(pid_t worker, int listener, int socket, int control, vv_oversee_tell *tell);

#endif
