/*
 * What is the process's own, and each thread's.
 *
 * SPDX-License-Identifier: MIT
 */
#include "base/call_state.h"

u64 vv_page_size, vv_host_page;

static struct vv_call_state first_thread;
_Thread_local struct vv_call_state *vv_call_state = &first_thread;
