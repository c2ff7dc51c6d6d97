/*
 * Places in the subject's code, relative to its library.
 *
 * SPDX-License-Identifier: MIT
 */
#pragma once

#include <signal.h>

#include "base/types.h"

void vv_where_loaded(const void *entry);     /* the subject, by its entry */

/* Signals that end a process, or ask where it is; once a worker, before its subject is loaded. */
void vv_where_arm(void (*on_end)(int, siginfo_t *, void *));

#define VV_COVERED_BYTES (1u << 20)          /* of a subject's library: a byte for each place, behind the replies */
extern uint8_t *vv_covered;                  /* NULL: nobody wants to know */

u64 vv_caller(void);                         /* the place that called the world; VV_NONE if it is not known */
void vv_where_ended(const void *context);    /* leaves the frames for the parent; the context of a signal, or NULL */
bool vv_where_unwinding(void);               /* a signal now is of vv_where_ended() itself, */
_Noreturn void vv_where_give_up(void);       /* and ends it */
