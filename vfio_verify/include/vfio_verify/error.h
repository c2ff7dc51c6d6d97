/*
 * QEMU's Error API, with its contract: errp is NULL, or points to NULL, or is &error_abort or
 * &error_fatal; an error is set once; messages have neither a trailing newline nor a full stop.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VFIO_VERIFY_ERROR_H
#define VFIO_VERIFY_ERROR_H

#include "vfio_verify/glib.h"

typedef struct Error Error;

typedef enum ErrorClass {
    ERROR_CLASS_GENERIC_ERROR,
    ERROR_CLASS_COMMAND_NOT_FOUND,
    ERROR_CLASS_DEVICE_NOT_ACTIVE,
    ERROR_CLASS_DEVICE_NOT_FOUND,
    ERROR_CLASS_K_V_M_MISSING_CAP,
} ErrorClass;

/* An error that reaches one of these ends the process. */
extern struct Error *error_abort;
extern struct Error *error_fatal;

/* ---- setting: errno is kept, and nothing happens when errp is NULL ---------------------------- */

void vfio_verify_error_set(struct Error **errp, int error_class, int os_error, const char *file, int line,
                           const char *function, const char *format, ...) __attribute__((format(printf, 7, 8)));

#define error_setg(errp, ...) vfio_verify_error_set((errp), 0, 0, __FILE__, __LINE__, __func__, __VA_ARGS__)

/* Appends ": " and what strerror() says of the errno, unless that is 0. */
#define error_setg_errno(errp, os_error, ...) \
    vfio_verify_error_set((errp), 0, (os_error), __FILE__, __LINE__, __func__, __VA_ARGS__)

#define error_setg_file_open(errp, os_error, name) \
    vfio_verify_error_set((errp), 0, (os_error), __FILE__, __LINE__, __func__, "Could not open '%s'", (name))

#define error_set(errp, error_class, ...) \
    vfio_verify_error_set((errp), (error_class), 0, __FILE__, __LINE__, __func__, __VA_ARGS__)

/* ---- passing on --------------------------------------------------------------------------------- */

/* Moves an error into *to, or drops it: when to is NULL, and when *to holds one already. */
void error_propagate(struct Error **to, struct Error *error);

void error_propagate_prepend(struct Error **to, struct Error *error, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* These two do nothing when errp is NULL, and must not meet one that points to NULL. */
void error_prepend(struct Error **errp, const char *format, ...) __attribute__((format(printf, 2, 3)));
void error_vprepend(struct Error **errp, const char *format, va_list *arguments) __attribute__((format(printf, 2, 0)));
void error_append_hint(struct Error **errp, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Until the end of the function, errp points to an error that can be looked at and prepended to,
 * whatever the caller passed. */
#define ERRP_GUARD()                                                            \
    __attribute__((cleanup(vfio_verify_errp_guard_end)))                        \
    struct vfio_verify_errp_guard vfio_verify_guard_of_errp = { NULL, (errp) }; \
    vfio_verify_errp_guard_begin(&vfio_verify_guard_of_errp, &(errp))

struct vfio_verify_errp_guard {
    struct Error *own;
    struct Error **callers;
};
void vfio_verify_errp_guard_begin(struct vfio_verify_errp_guard *guard, struct Error ***errp);
void vfio_verify_errp_guard_end(struct vfio_verify_errp_guard *guard);

/* ---- looking and ending ------------------------------------------------------------------------- */

const char *error_get_pretty(const struct Error *error);
enum ErrorClass error_get_class(const struct Error *error);
struct Error *error_copy(const struct Error *error);
void error_free(struct Error *error);
void error_free_or_abort(struct Error **errp);
void error_report_err(struct Error *error);
void warn_report_err(struct Error *error);
void error_reportf_err(struct Error *error, const char *format, ...) __attribute__((format(printf, 2, 3)));
void warn_reportf_err(struct Error *error, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* For g_autoptr(Error). */
void vfio_verify_error_free(struct Error *error);
typedef struct Error *vfio_verify_pointer_Error;
static inline void vfio_verify_autoptr_Error(struct Error **error)
{
    vfio_verify_error_free(*error);
}

/* ---- messages to the user: formatted, so that a bad argument shows, and not printed ------------ */

void error_report(const char *format, ...) __attribute__((format(printf, 1, 2)));
void warn_report(const char *format, ...) __attribute__((format(printf, 1, 2)));
void info_report(const char *format, ...) __attribute__((format(printf, 1, 2)));
int error_printf(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* True the first time that this place is reached. */
#define VFIO_VERIFY_ONCE(...) __extension__({           \
    static bool vv_said;                                \
    bool vv_first = !vv_said;                           \
    vv_said = true;                                     \
    if (vv_first) {                                     \
        vfio_verify_say(__VA_ARGS__);                   \
    }                                                   \
    vv_first;                                           \
})

#define error_report_once(...) VFIO_VERIFY_ONCE(__VA_ARGS__)
#define warn_report_once(...) VFIO_VERIFY_ONCE(__VA_ARGS__)

#endif
