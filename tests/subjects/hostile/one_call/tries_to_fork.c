/* conforms | tries each way to make a process; none is there, and it goes on without */

#include "../hostile.h"
#include <sched.h>

static void deed(void)
{
    static unsigned long arguments[11] = {[4] = SIGCHLD};
    static char stack[4096] __attribute__((aligned(16)));
    static const long flags[] = {
        SIGCHLD, SIGCHLD | CLONE_PARENT, SIGCHLD | CLONE_VFORK, SIGCHLD | CLONE_FILES, SIGUSR1, 0,
        SIGCHLD | CLONE_NEWUSER, SIGCHLD | CLONE_NEWPID, SIGCHLD | 1l << 32,
    };
    unsigned int i;
    long child = -1;

    for (i = 0; i < sizeof(flags) / sizeof(flags[0]) && child < 0; i++) {
        child = raw(SYS_clone, flags[i], 0, 0, 0, 0, 0);
    }
    if (child < 0) {
        child = raw(435 /* clone3 */, (long)arguments, sizeof(arguments), 0, 0, 0, 0);
    }
#ifdef __x86_64__
    if (child < 0) {
        child = raw(SYS_fork, 0, 0, 0, 0, 0, 0);
    }
#endif
    if (child == 0) {
        raw(SYS_exit_group, 0, 0, 0, 0, 0, 0);
    }
    if (child > 0 || clone((int (*)(void *))_exit, stack + sizeof(stack), CLONE_VM | SIGCHLD, NULL) > 0) {
        *(volatile int *)NULL = 1;
    }
}

bool vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                             void **addr, size_t total_size, Error **errp)
{
    return map_and(deed, iov, iov_cnt, addr, total_size, errp);
}
