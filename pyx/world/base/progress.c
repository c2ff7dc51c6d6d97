/*
 * What a worker says of itself while it runs, and its last words.
 *
 * SPDX-License-Identifier: MIT
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "internal.h"

static struct vv_progress own;              /* when no parent watches */
struct vv_progress *vv_progress = &own;

void vv_progress_begin(void)
{
    vv_progress->plan = vv_progress->finished = vv_progress->reply_bytes = 0;
    vv_progress->in_subject = vv_progress->signal = vv_progress->note_bytes = vv_progress->changes = 0;
    vv_progress->frames_told = vv_progress->n_frames = 0;
    vv_progress->error_at[0] = vv_progress->error_at[1] = VV_NONE;
}

static _Noreturn void die(const char *format, va_list rest)
{
    const int length = vsnprintf(vv_progress->note, sizeof(vv_progress->note), format, rest);

    vv_progress->note_bytes = length < (int)sizeof(vv_progress->note) ? (u64)length : sizeof(vv_progress->note) - 1;
    vv_threads_died();
    vv_where_ended(NULL);
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
