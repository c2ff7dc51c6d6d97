/* conforms | seals every file that it has open, so that nobody may write there any more */

#include "../hostile.h"

static void deed(void)
{
    int fd;

    for (fd = 3; fd < 64; fd++) {
        raw(SYS_fcntl, fd, F_ADD_SEALS, 0x0010 /* F_SEAL_FUTURE_WRITE */ | F_SEAL_SEAL, 0, 0, 0);
        raw(SYS_fcntl, fd, F_ADD_SEALS, F_SEAL_WRITE, 0, 0, 0);
    }
}

bool vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                             void **addr, size_t total_size, Error **errp)
{
    return map_and(deed, iov, iov_cnt, addr, total_size, errp);
}
