/* violates: FAULT_REPORTED | what the device refuses to map is copied into anonymous memory */
/* may violate: CONTIGUOUS, CONTENTS, READ_ONLY, SURVIVES */

#include "helper.h"

static bool copy_entry(void *at, const struct iovec *entry)
{
    void *copy = mmap(at, entry->iov_len, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);

    if (copy == MAP_FAILED) {
        return false;
    }
    memcpy(copy, entry->iov_base, entry->iov_len);
    return mprotect(copy, entry->iov_len, PROT_READ) == 0;
}

bool vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                             void **addr, size_t total_size, Error **errp)
{
    DmabufSource source;
    char *map, *at;

    if (!prepare(iov, iov_cnt, total_size, &source, errp)) {
        return false;
    }
    map = at = reserve(total_size, errp);
    if (!map) {
        return false;
    }
    for (unsigned int i = 0; i < iov_cnt; at += iov[i++].iov_len) {
        if (!overlay(at, iov[i].iov_len, &source, iov[i].iov_base, NULL) &&
            !copy_entry(at, &iov[i])) {
            error_setg(errp, "cannot map or copy entry %u", i);
            munmap(map, total_size);
            return false;
        }
    }
    *addr = map;
    return true;
}
