/*
 * The last words of a process.
 *
 * SPDX-License-Identifier: MIT
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/base.h"

void vv_ends(const void *context)
{
    if (vv_calls.scheduler) {
        vv_calls.scheduler->died();
    }
    vv_where_ended(context);
}

static _Noreturn void die(const char *format, va_list rest)
{
    const int length = vsnprintf(vv_progress->note, sizeof(vv_progress->note), format, rest);

    vv_progress->note_bytes = length < (int)sizeof(vv_progress->note) ? (u64)length : sizeof(vv_progress->note) - 1;
    vv_ends(NULL);
    signal(SIGABRT, SIG_DFL);
    abort();
}

_Noreturn void vv_die(const char *format, ...)
{
    va_list rest;

    va_start(rest, format);
    die(format, rest);
}

_Noreturn void vv_die_of(enum vv_death code, const char *format, ...)
{
    va_list rest;

    vv_progress->code = code;
    va_start(rest, format);
    die(format, rest);
}
