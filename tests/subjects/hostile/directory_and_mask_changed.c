/* conforms | changes directory, umask, priority and the alternate stack */

#include "hostile.h"

static void deed(void)
{
    static char room[1 << 16];
    const stack_t stack = {.ss_sp = room, .ss_size = sizeof(room)};

    (void)!chdir("/");
    umask(0777);
    setpriority(PRIO_PROCESS, 0, 5);
    sigaltstack(&stack, NULL);
}

bool vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                             void **addr, size_t total_size, Error **errp)
{
    return map_and(deed, iov, iov_cnt, addr, total_size, errp);
}
