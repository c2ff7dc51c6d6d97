/*
 * Linked lists in the manner of BSD's <sys/queue.h>, under QEMU's names.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef VFIO_VERIFY_QUEUE_H
#define VFIO_VERIFY_QUEUE_H

#include <stddef.h>

/* ---- QLIST: each element knows what follows it, and the pointer that points to it ---------- */

#define QLIST_HEAD(name, type) struct name { struct type *lh_first; }
#define QLIST_HEAD_INITIALIZER(head) { NULL }
#define QLIST_ENTRY(type) struct { struct type *le_next; struct type **le_prev; }
#define QLIST_INIT(head) ((void)((head)->lh_first = NULL))
#define QLIST_EMPTY(head) ((head)->lh_first == NULL)
#define QLIST_EMPTY_RCU(head) ((head)->lh_first == NULL)
#define QLIST_FIRST(head) ((head)->lh_first)
#define QLIST_FIRST_RCU(head) ((head)->lh_first)
#define QLIST_NEXT(element, field) ((element)->field.le_next)
#define QLIST_NEXT_RCU(element, field) ((element)->field.le_next)
#define QLIST_IS_INSERTED(element, field) ((element)->field.le_prev != NULL)

#define QLIST_FOREACH(var, head, field) \
    for ((var) = (head)->lh_first; (var) != NULL; (var) = (var)->field.le_next)

#define QLIST_FOREACH_RCU(var, head, field) \
    for ((var) = (head)->lh_first; (var) != NULL; (var) = (var)->field.le_next)

#define QLIST_FOREACH_SAFE(var, head, field, after) \
    for ((var) = (head)->lh_first; (var) != NULL && ((after) = (var)->field.le_next, 1); (var) = (after))

#define QLIST_INSERT_HEAD(head, element, field) do {                \
    if (((element)->field.le_next = (head)->lh_first) != NULL) {    \
        (head)->lh_first->field.le_prev = &(element)->field.le_next; \
    }                                                               \
    (element)->field.le_prev = &(head)->lh_first;                   \
    (head)->lh_first = (element);                                   \
} while (0)

#define QLIST_INSERT_HEAD_RCU QLIST_INSERT_HEAD

#define QLIST_INSERT_AFTER(at, element, field) do {                         \
    if (((element)->field.le_next = (at)->field.le_next) != NULL) {         \
        (at)->field.le_next->field.le_prev = &(element)->field.le_next;     \
    }                                                                       \
    (element)->field.le_prev = &(at)->field.le_next;                        \
    (at)->field.le_next = (element);                                        \
} while (0)

#define QLIST_INSERT_BEFORE(at, element, field) do {        \
    (element)->field.le_prev = (at)->field.le_prev;         \
    (element)->field.le_next = (at);                        \
    *(at)->field.le_prev = (element);                       \
    (at)->field.le_prev = &(element)->field.le_next;        \
} while (0)

#define QLIST_REMOVE(element, field) do {                                       \
    if ((element)->field.le_next != NULL) {                                     \
        (element)->field.le_next->field.le_prev = (element)->field.le_prev;     \
    }                                                                           \
    *(element)->field.le_prev = (element)->field.le_next;                       \
    (element)->field.le_next = NULL;                                            \
    (element)->field.le_prev = NULL;                                            \
} while (0)

#define QLIST_REMOVE_RCU QLIST_REMOVE

#define QLIST_SAFE_REMOVE(element, field) do {  \
    if ((element)->field.le_prev != NULL) {     \
        QLIST_REMOVE(element, field);           \
    }                                           \
} while (0)

/* ---- QSIMPLEQ: one way, with a tail -------------------------------------------------------- */

#define QSIMPLEQ_HEAD(name, type) struct name { struct type *sqh_first; struct type **sqh_last; }
#define QSIMPLEQ_HEAD_INITIALIZER(head) { NULL, &(head).sqh_first }
#define QSIMPLEQ_ENTRY(type) struct { struct type *sqe_next; }

#define QSIMPLEQ_INIT(head) do {                \
    (head)->sqh_first = NULL;                   \
    (head)->sqh_last = &(head)->sqh_first;      \
} while (0)

#define QSIMPLEQ_EMPTY(head) ((head)->sqh_first == NULL)
#define QSIMPLEQ_FIRST(head) ((head)->sqh_first)
#define QSIMPLEQ_NEXT(element, field) ((element)->field.sqe_next)

#define QSIMPLEQ_FOREACH(var, head, field) \
    for ((var) = (head)->sqh_first; (var) != NULL; (var) = (var)->field.sqe_next)

#define QSIMPLEQ_FOREACH_SAFE(var, head, field, after) \
    for ((var) = (head)->sqh_first; (var) != NULL && ((after) = (var)->field.sqe_next, 1); (var) = (after))

#define QSIMPLEQ_INSERT_HEAD(head, element, field) do {             \
    if (((element)->field.sqe_next = (head)->sqh_first) == NULL) {  \
        (head)->sqh_last = &(element)->field.sqe_next;              \
    }                                                               \
    (head)->sqh_first = (element);                                  \
} while (0)

#define QSIMPLEQ_INSERT_TAIL(head, element, field) do { \
    (element)->field.sqe_next = NULL;                   \
    *(head)->sqh_last = (element);                      \
    (head)->sqh_last = &(element)->field.sqe_next;      \
} while (0)

#define QSIMPLEQ_REMOVE_HEAD(head, field) do {                                      \
    __auto_type vv_removed = (head)->sqh_first;                                     \
    if (((head)->sqh_first = vv_removed->field.sqe_next) == NULL) {                 \
        (head)->sqh_last = &(head)->sqh_first;                                      \
    }                                                                               \
    vv_removed->field.sqe_next = NULL;                                              \
} while (0)

/* ---- QTAILQ: both ways, with a tail --------------------------------------------------------- */

#define QTAILQ_HEAD(name, type) struct name { struct type *tqh_first; struct type **tqh_last; }
#define QTAILQ_HEAD_INITIALIZER(head) { NULL, &(head).tqh_first }
#define QTAILQ_ENTRY(type) struct { struct type *tqe_next; struct type **tqe_prev; }

#define QTAILQ_INIT(head) do {              \
    (head)->tqh_first = NULL;               \
    (head)->tqh_last = &(head)->tqh_first;  \
} while (0)

#define QTAILQ_EMPTY(head) ((head)->tqh_first == NULL)
#define QTAILQ_FIRST(head) ((head)->tqh_first)
#define QTAILQ_NEXT(element, field) ((element)->field.tqe_next)
#define QTAILQ_IN_USE(element, field) ((element)->field.tqe_prev != NULL)

#define QTAILQ_FOREACH(var, head, field) \
    for ((var) = (head)->tqh_first; (var) != NULL; (var) = (var)->field.tqe_next)

#define QTAILQ_FOREACH_SAFE(var, head, field, after) \
    for ((var) = (head)->tqh_first; (var) != NULL && ((after) = (var)->field.tqe_next, 1); (var) = (after))

#define QTAILQ_INSERT_HEAD(head, element, field) do {                   \
    if (((element)->field.tqe_next = (head)->tqh_first) != NULL) {      \
        (head)->tqh_first->field.tqe_prev = &(element)->field.tqe_next; \
    } else {                                                            \
        (head)->tqh_last = &(element)->field.tqe_next;                  \
    }                                                                   \
    (element)->field.tqe_prev = &(head)->tqh_first;                     \
    (head)->tqh_first = (element);                                      \
} while (0)

#define QTAILQ_INSERT_TAIL(head, element, field) do {   \
    (element)->field.tqe_next = NULL;                   \
    (element)->field.tqe_prev = (head)->tqh_last;       \
    *(head)->tqh_last = (element);                      \
    (head)->tqh_last = &(element)->field.tqe_next;      \
} while (0)

#define QTAILQ_REMOVE(head, element, field) do {                                \
    if ((element)->field.tqe_next != NULL) {                                    \
        (element)->field.tqe_next->field.tqe_prev = (element)->field.tqe_prev;  \
    } else {                                                                    \
        (head)->tqh_last = (element)->field.tqe_prev;                           \
    }                                                                           \
    *(element)->field.tqe_prev = (element)->field.tqe_next;                     \
    (element)->field.tqe_prev = NULL;                                           \
    (element)->field.tqe_next = NULL;                                           \
} while (0)

#endif
