/* violates: CONTIGUOUS, CONTENTS | returns the address after a leading page that the overlays do not skip */

#include "helper.h"

bool vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                             void **addr, size_t total_size, Error **errp)
{
    const size_t header = qemu_real_host_page_size();
    DmabufSource source;
    char *map;

    if (!prepare(iov, iov_cnt, total_size, &source, errp)) {
        return false;
    }
    map = reserve(header + total_size, errp);
    if (!map) {
        return false;
    }
    if (!overlay_all(map, iov, iov_cnt, &source, errp)) {
        munmap(map, header + total_size);
        return false;
    }
    *addr = map + header;
    return true;
}
