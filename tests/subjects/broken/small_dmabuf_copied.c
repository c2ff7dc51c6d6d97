/* violates: CONTENTS | up to 16 pages are copied into the placeholder instead of mapped: equal now, not later */
/* may violate: CONTIGUOUS, READ_ONLY, SURVIVES */

#include "helper.h"
#include <string.h>

static bool copy_entries(char *map, size_t size, const struct iovec *iov,
                         unsigned int iov_cnt)
{
    char *at = map;

    if (mprotect(map, size, PROT_READ | PROT_WRITE) < 0) {
        return false;
    }
    for (unsigned int i = 0; i < iov_cnt; i++) {
        memcpy(at, iov[i].iov_base, iov[i].iov_len);
        at += iov[i].iov_len;
    }
    return mprotect(map, size, PROT_READ) == 0;
}

bool vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                             void **addr, size_t total_size, Error **errp)
{
    DmabufSource source;
    void *map;

    if (!prepare(iov, iov_cnt, total_size, &source, errp)) {
        return false;
    }
    map = reserve(total_size, errp);
    if (!map) {
        return false;
    }
    if (total_size <= 16 * qemu_real_host_page_size()) {
        if (!copy_entries(map, total_size, iov, iov_cnt)) {
            error_setg_errno(errp, errno, "cannot copy");
            munmap(map, total_size);
            return false;
        }
    } else if (!overlay_all(map, iov, iov_cnt, &source, errp)) {
        munmap(map, total_size);
        return false;
    }
    *addr = map;
    return true;
}
