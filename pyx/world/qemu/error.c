/*
 * The Error API. Errors live in the subject's heap, so one that is made and dropped counts as left
 * over; the one handed to the caller does not.
 *
 * SPDX-License-Identifier: MIT
 */
#include "base/base.h"
#include "qemu/qemu.h"
#include "vfio_verify/qemu.h"

#define MAGIC 0x726f727265207676ull

struct Error {
    u64 magic;
    char *message;
    char *hint;                     /* NULL until there is one */
    enum ErrorClass class;
    int line;
    const char *file, *function;
    u64 at;                         /* the place in the subject that set it */
};

VV_EXPORT struct Error *error_abort;
VV_EXPORT struct Error *error_fatal;

/* ---- parts ---------------------------------------------------------------------------------------- */

/* A message belongs to its Error: it is hidden, so that an Error left over counts as one block. */
static char *format_message(const char *before, const char *format, va_list arguments, const char *after)
{
    const size_t first = strlen(before), last = strlen(after);
    va_list again;
    size_t middle;
    int length;
    char *text;

    va_copy(again, arguments);
    length = vsnprintf(NULL, 0, format, again);
    va_end(again);
    middle = length < 0 ? 0 : (size_t)length;
    text = vv_heap_alloc(first + middle + last + 1, 1);
    if (!text) {
        vv_die("no memory for an error message of %zu bytes", first + middle + last);
    }
    vv_heap_hide(text);
    memcpy(text, before, first);
    vsnprintf(text + first, middle + 1, format, arguments);
    memcpy(text + first + middle, after, last + 1);
    return text;
}

static bool is_error(const struct Error *error)
{
    return vv_heap_owns(error) && error->magic == MAGIC && vv_heap_owns(error->message);
}

/* Whatever a subject passes as an Error is looked at before it is followed. */
static const struct Error *checked(const struct Error *error, const char *function)
{
    if (!error) {
        vv_die("%s: the Error is NULL", function);
    }
    if (!is_error(error)) {
        vv_die("%s: not an Error, or freed before", function);
    }
    return error;
}

static struct Error *new_error(char *message, enum ErrorClass class)
{
    struct Error *error = vv_heap_alloc(sizeof(*error), 16);

    if (!error) {
        vv_die("no memory for an Error");
    }
    error->magic = MAGIC;
    error->message = message;
    error->class = class;
    error->at = vv_caller();
    return error;
}

static void end_process_if_asked(struct Error **errp, const char *message, const char *file, int line,
                                 const char *function)
{
    if (errp == &error_abort) {
        vv_die("unexpected error in %s() at %s:%d: %s", function, file, line, message);
    }
    if (errp == &error_fatal) {
        vv_die("an error passed to &error_fatal ends QEMU: %s", message);
    }
}

static void count_if_callers(struct Error **errp, const struct Error *error)
{
    if (errp == &vv_calls.callers_error) {
        if (vv_calls.error_sets < 2) {
            vv_progress->error_at[vv_calls.error_sets] = vv_calls.error_at[vv_calls.error_sets] = error->at;
        }
        vv_calls.error_sets++;
    }
}

/* ---- setting --------------------------------------------------------------------------------------- */

VV_EXPORT void vfio_verify_error_set(struct Error **errp, int error_class, int os_error, const char *file, int line,
                                     const char *function, const char *format, ...)
{
    const int saved_errno = errno;
    char buffer[128], suffix[160] = "";
    struct Error *error;
    va_list arguments;
    char *message;

    if (!errp) {
        return;
    }
    vv_pause();
    if (os_error) {
        snprintf(suffix, sizeof(suffix), ": %s", strerror_r(os_error, buffer, sizeof(buffer)));
    }
    va_start(arguments, format);
    message = format_message("", format, arguments, suffix);
    va_end(arguments);
    end_process_if_asked(errp, message, file, line, function);
    if (*errp) {
        if (!is_error(*errp)) {
            vv_die("error_setg in %s() at %s:%d: errp points neither to NULL nor to an Error", function, file, line);
        }
        vv_die_of(VV_DEATH_ERROR_SET_TWICE, "an error was set twice: first \"%s\", then, in %s() at %s:%d, \"%s\"",
                  (*errp)->message, function, file, line, message);
    }
    error = new_error(message, (enum ErrorClass)error_class);
    error->file = file;
    error->line = line;
    error->function = function;
    *errp = error;
    count_if_callers(errp, error);
    errno = saved_errno;
}

/* ---- passing on -------------------------------------------------------------------------------------- */

VV_EXPORT void error_propagate(struct Error **to, struct Error *error)
{
    if (!error) {
        return;
    }
    vv_pause();
    checked(error, "error_propagate");
    end_process_if_asked(to, error->message, error->file, error->line, error->function);
    count_if_callers(to, error);
    if (to && !*to) {
        *to = error;
    } else {
        vfio_verify_error_free(error);
    }
}

static void prepend(struct Error **errp, const char *who, const char *format, va_list arguments)
{
    char *message;

    if (!errp) {
        return;
    }
    if (!*errp) {
        vv_die("%s: errp points to NULL, which QEMU follows", who);
    }
    checked(*errp, who);
    message = format_message("", format, arguments, (*errp)->message);
    vv_heap_free((*errp)->message);
    (*errp)->message = message;
}

VV_EXPORT void error_vprepend(struct Error **errp, const char *format, va_list *arguments)
{
    prepend(errp, "error_vprepend", format, *arguments);
}

VV_EXPORT void error_prepend(struct Error **errp, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    prepend(errp, "error_prepend", format, arguments);
    va_end(arguments);
}

VV_EXPORT void error_propagate_prepend(struct Error **to, struct Error *error, const char *format, ...)
{
    va_list arguments;

    if (!error) {
        return;
    }
    va_start(arguments, format);
    if (to && !*to) {
        prepend(&error, "error_propagate_prepend", format, arguments);
    }
    va_end(arguments);
    error_propagate(to, error);
}

VV_EXPORT void error_append_hint(struct Error **errp, const char *format, ...)
{
    const int saved_errno = errno;
    va_list arguments;
    char *hint;

    if (!errp) {
        return;
    }
    if (errp == &error_abort || errp == &error_fatal) {
        vv_die("error_append_hint: not for &error_abort and &error_fatal");
    }
    checked(*errp, "error_append_hint");
    va_start(arguments, format);
    hint = format_message((*errp)->hint ? (*errp)->hint : "", format, arguments, "");
    va_end(arguments);
    vv_heap_free((*errp)->hint);
    (*errp)->hint = hint;
    errno = saved_errno;
}

VV_EXPORT void vfio_verify_errp_guard_begin(struct vfio_verify_errp_guard *guard, struct Error ***errp)
{
    if (!*errp || *errp == &error_fatal) {
        *errp = &guard->own;
    }
}

VV_EXPORT void vfio_verify_errp_guard_end(struct vfio_verify_errp_guard *guard)
{
    error_propagate(guard->callers, guard->own);
}

/* ---- looking and ending -------------------------------------------------------------------------------- */

VV_EXPORT const char *error_get_pretty(const struct Error *error)
{
    return checked(error, "error_get_pretty")->message;
}

VV_EXPORT enum ErrorClass error_get_class(const struct Error *error)
{
    return checked(error, "error_get_class")->class;
}

static char *copy_of(const char *text)
{
    char *copy = text ? vv_heap_alloc(strlen(text) + 1, 1) : NULL;

    if (text && !copy) {
        vv_die("no memory for a copy of an error message");
    }
    vv_heap_hide(copy);
    return copy ? strcpy(copy, text) : NULL;
}

VV_EXPORT struct Error *error_copy(const struct Error *error)
{
    struct Error *copy = new_error(copy_of(checked(error, "error_copy")->message), error->class);

    copy->hint = copy_of(error->hint);
    copy->file = error->file;
    copy->line = error->line;
    copy->function = error->function;
    copy->at = error->at;
    return copy;
}

VV_EXPORT void vfio_verify_error_free(struct Error *error)
{
    if (error && is_error(error)) {
        vv_heap_free(error->message);
        vv_heap_free(error->hint);
    }
    vv_heap_free(error);            /* records what was freed before, or is no Error */
}

VV_EXPORT void error_free(struct Error *error)
{
    vfio_verify_error_free(error);
}

VV_EXPORT void error_free_or_abort(struct Error **errp)
{
    if (!errp || !*errp) {
        vv_die("error_free_or_abort: there is no error");
    }
    vfio_verify_error_free(*errp);
    *errp = NULL;
}

static void report(struct Error *error, const char *who)
{
    vfio_verify_say("%s", checked(error, who)->message);
    vfio_verify_error_free(error);
}

VV_EXPORT void error_report_err(struct Error *error) { report(error, "error_report_err"); }
VV_EXPORT void warn_report_err(struct Error *error) { report(error, "warn_report_err"); }

static void report_prepended(struct Error *error, const char *who, const char *format, va_list arguments)
{
    prepend(&error, who, format, arguments);
    report(error, who);
}

VV_EXPORT void error_reportf_err(struct Error *error, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    report_prepended(error, "error_reportf_err", format, arguments);
    va_end(arguments);
}

VV_EXPORT void warn_reportf_err(struct Error *error, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    report_prepended(error, "warn_reportf_err", format, arguments);
    va_end(arguments);
}

/* ---- around a call ---------------------------------------------------------------------------------------- */

struct Error **vv_error_slot(void)
{
    error_abort = error_fatal = vv_calls.callers_error = NULL;
    vv_calls.error_sets = 0;
    vv_calls.error_at[0] = vv_calls.error_at[1] = VV_NONE;
    return &vv_calls.callers_error;
}

const char *vv_error_report(const struct vv_call *call, struct vv_error_report *report, u64 at[2])
{
    struct Error *error = call->errp ? vv_calls.callers_error : NULL;
    const u64 sets = vv_calls.error_sets;

    memcpy(at, vv_calls.error_at, sizeof(vv_calls.error_at));
    *report = (struct vv_error_report){
        .given = call->errp != NULL,
        .left = error != NULL,
        .sets = error && !sets ? 1 : sets,      /* *errp = error, without error_propagate() */
    };
    if (!error || !is_error(error)) {
        return "";
    }
    at[0] = sets ? at[0] : error->at;
    report->length = strlen(error->message);
    vv_heap_hide(error);
    return error->message;
}
