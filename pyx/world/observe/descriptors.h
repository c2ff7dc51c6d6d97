/*
 * Whose a descriptor is.
 *
 * SPDX-License-Identifier: MIT
 */
#pragma once

#include "base/types.h"

void vv_fds_begin(void);                    /* what is open now is not the subject's, until this is called again */
void vv_fds_before_call(void);
u64 vv_fds_left(u64 *gone);                 /* how many are open that were not before the call, and how many are gone */
void vv_fds_release(void);                  /* close all that is the subject's */
u64 vv_fds_open_from(u64 first);            /* the next open one; VV_NONE */
bool vv_fd_is_foreign(int fd);              /* open before, or opened by another thread's call */
int vv_fd_opened(int fd);                   /* by this thread's call; returns it */
void vv_fd_closed(int fd);
void vv_fd_lend(int fd);                    /* the world closes one of its own: the subject may get its number */
void vv_fd_take_back(int fd);               /* before it is open again: what the subject has there moves away */
