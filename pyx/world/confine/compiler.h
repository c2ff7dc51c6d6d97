/*
 * What confines a compiler, in the thread that starts it: a stranger's text must not make it read or send anything.
 *
 * SPDX-License-Identifier: MIT
 */
#pragma once

#include "base/types.h"

/* Confines this thread, and what it starts, for good, by some of enum vv_confine_parts. Paths that are not there, or
 * not for this user, are passed over, and so is what the kernel lacks. Each path of a list ends in NUL, and the last one
 * in two. 0, or -1 with errno. */
int vv_confine_compiler(u64 parts, const char *programs, const char *readable, const char *writable);
