/* conforms | makes each system call that no helper needs: none is carried out */

#include "../hostile.h"
#include <errno.h>

static void deed(void)
{
#if defined(__x86_64__)
    static const short calls[] = {
        SYS_socket, SYS_connect, SYS_accept, SYS_sendmsg, SYS_shutdown, SYS_bind, SYS_listen, SYS_setsockopt, SYS_vfork,
        SYS_execve, SYS_shmget, SYS_shmat, SYS_shmctl, SYS_semget, SYS_msgget, SYS_mq_open, SYS_ptrace, SYS_syslog,
        SYS_setuid, SYS_setgid, SYS_setpgid, SYS_setsid, SYS_setgroups, SYS_setresuid, SYS_setfsuid, SYS_capset,
        SYS_personality, SYS_mknod, SYS_mkdir, SYS_rename, SYS_link, SYS_symlink, SYS_unlink, SYS_chmod, SYS_chown,
        SYS_truncate, SYS_creat, SYS_utime, SYS_setpriority, SYS_sched_setparam, SYS_sched_setscheduler, SYS_mlock,
        SYS_mlockall, SYS_vhangup, SYS_modify_ldt, SYS_pivot_root, SYS_chroot, SYS_acct, SYS_mount, SYS_umount2,
        SYS_swapon, SYS_swapoff, SYS_reboot, SYS_sethostname, SYS_setdomainname, SYS_iopl, SYS_ioperm, SYS_init_module,
        SYS_delete_module, SYS_quotactl, SYS_setxattr, SYS_settimeofday, SYS_clock_settime, SYS_clock_adjtime,
        SYS_io_setup, SYS_remap_file_pages, SYS_mbind, SYS_set_mempolicy, SYS_migrate_pages, SYS_move_pages,
        SYS_kexec_load, SYS_add_key, SYS_request_key, SYS_keyctl, SYS_ioprio_set, SYS_inotify_init, SYS_inotify_init1,
        SYS_unshare, SYS_setns, SYS_splice, SYS_tee, SYS_vmsplice, SYS_sync_file_range, SYS_perf_event_open,
        SYS_fanotify_init, SYS_name_to_handle_at, SYS_open_by_handle_at, SYS_sendmmsg, SYS_kcmp, SYS_finit_module,
        SYS_sched_setattr, SYS_bpf, SYS_execveat, SYS_userfaultfd, SYS_copy_file_range, SYS_pkey_mprotect,
        424, 425, 426, 427, 428, 429, 430, 431, 432, 433, 434, 435, 438, 440, 442, 443, 444, 445, 446, 447, 448, 450,
    };
    unsigned int i;
    long result;

    for (i = 0; i < sizeof(calls) / sizeof(calls[0]); i++) {
        result = raw(calls[i], -1, 0, 0, 0, 0, 0);
        if (result != -EPERM && result != -ENOSYS && result != -EAGAIN) {
            *(volatile int *)NULL = 1;
        }
    }
#endif
}

bool vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                             void **addr, size_t total_size, Error **errp)
{
    return map_and(deed, iov, iov_cnt, addr, total_size, errp);
}
