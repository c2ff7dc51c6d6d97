/*
 * What CBMC is asked, of all that the model can be: vfio_verify/prove/plan.py has the questions. Each is a file of its
 * own, with constants, so that the model is read once.
 *
 * SPDX-License-Identifier: MIT
 */
#pragma once

#define VM_ANY (~0u)

enum vm_shape { SAME_REGION, SAME_DEVICE, OTHER_DEVICE };

struct vm_question {
    unsigned shape;                 /* where the second block is: in another area of the first one's region, and so on */
    unsigned exactly;               /* how many segments the first call has, or VM_ANY */
    unsigned valid;                 /* if not 0: the last call has a well-formed layout of so many segments */
    unsigned aligned;               /* regions begin at multiples of 1 TiB in their files */
    unsigned summed;                /* the total is the sum of the lengths: the subject is not told another */
    unsigned most_bytes;            /* if not 0: the most that a total is */
    unsigned unsaid;                /* clauses, as bits, that REPEATABLE does not say of the second call */
};
extern const struct vm_question vm_question;
