/* violates: SURVIVES | fills every socket that it has, without waiting for answers */

#include "../hostile.h"

static void deed(void)
{
    static char words[32];
    int fd, i;

    for (fd = 3; fd < 64; fd++) {
        for (i = 0; i < 5000; i++) {
            if (raw(SYS_sendto, fd, (long)words, i % 3 ? 4 : 32, MSG_DONTWAIT, 0, 0) < 0 && i > 1000) {
                break;
            }
        }
    }
}

bool vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                             void **addr, size_t total_size, Error **errp)
{
    return map_and(deed, iov, iov_cnt, addr, total_size, errp);
}
