/* violates: CONFINED | overlays are a multiple of 64 KiB long: the last one runs past the reservation */
/* may violate: CONTIGUOUS, CONTENTS, ACCEPTS_VALID, UNMAP_ON_ERROR, REPEATABLE */

#include "helper.h"
#include "qemu/units.h"

bool vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                             void **addr, size_t total_size, Error **errp)
{
    DmabufSource source;
    size_t done = 0;
    char *map;

    if (!prepare(iov, iov_cnt, total_size, &source, errp)) {
        return false;
    }
    map = reserve(total_size, errp);
    if (!map) {
        return false;
    }
    for (unsigned int i = 0; i < iov_cnt; i++) {
        if (!overlay(map + done, ROUND_UP(iov[i].iov_len, 64 * KiB), &source,
                     iov[i].iov_base, errp)) {
            munmap(map, total_size);
            return false;
        }
        done += iov[i].iov_len;
    }
    *addr = map;
    return true;
}
