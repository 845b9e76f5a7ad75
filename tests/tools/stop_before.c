/* Runs a command and kills it with SIGKILL right before its n-th system call that changes something on disk.
 *
 *     stop_before N LIST COMMAND...
 *
 * Calls are counted from 1 over all threads, in the order in which they are entered. Each is written to the file LIST
 * as one line, the one that was prevented included. With N = 0 nothing is killed. Exit code: that of the command, or
 * 137 if it was killed. strace can inject signals, but counts each thread on its own. */

#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include <linux/ptrace.h>

static const char *name_of(unsigned long long number) {
    switch (number) {
#define CALL(name) case SYS_##name: return #name;
    CALL(fsync) CALL(fdatasync) CALL(syncfs) CALL(write) CALL(pwrite64) CALL(ftruncate) CALL(fallocate)
    CALL(renameat2) CALL(linkat) CALL(unlinkat) CALL(mkdirat) CALL(symlinkat) CALL(mknodat)
    CALL(fchmod) CALL(fchown) CALL(utimensat) CALL(fsetxattr)
    CALL(copy_file_range)
#ifdef SYS_renameat
    CALL(renameat)
#endif
#ifdef SYS_rename
    CALL(rename) CALL(link) CALL(unlink) CALL(mkdir) CALL(rmdir) CALL(symlink) CALL(chmod)
#endif
#undef CALL
    }
    return NULL;
}

static void fail(const char *what) {
    perror(what);
    exit(125);
}

int main(int argc, char **argv) {
    if (argc < 4) return 125;
    long stop = atol(argv[1]), count = 0;
    FILE *list = fopen(argv[2], "w");
    if (!list) fail(argv[2]);
    pid_t child = fork();
    if (child < 0) fail("fork");
    if (child == 0) {
        fclose(list);
        if (ptrace(PTRACE_TRACEME, 0, 0, 0) < 0) fail("traceme");
        raise(SIGSTOP);
        execvp(argv[3], argv + 3);
        fail(argv[3]);
    }
    int status;
    if (waitpid(child, &status, 0) != child) fail("waitpid");
    if (ptrace(PTRACE_SETOPTIONS, child, 0, PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACECLONE | PTRACE_O_EXITKILL) < 0)
        fail("setoptions");
    ptrace(PTRACE_SYSCALL, child, 0, 0);
    for (;;) {
        pid_t thread = waitpid(-1, &status, __WALL);
        if (thread < 0) {
            if (errno == EINTR) continue;
            fail("waitpid");
        }
        if (WIFEXITED(status) || WIFSIGNALED(status)) {
            if (thread != child) continue;
            fclose(list);
            return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
        }
        int signal = WSTOPSIG(status);
        if (signal == (SIGTRAP | 0x80)) {
            struct ptrace_syscall_info info;
            if (ptrace(PTRACE_GET_SYSCALL_INFO, thread, sizeof info, &info) > 0 && info.op == PTRACE_SYSCALL_INFO_ENTRY) {
                const char *name = name_of(info.entry.nr);
                if (name) {
                    fprintf(list, "%s\n", name);
                    /* The thread stands before the call, so the call is not carried out. */
                    if (++count == stop) kill(child, SIGKILL);
                }
            }
            signal = 0;
        } else if (signal == SIGTRAP || signal == SIGSTOP) {
            signal = 0;
        }
        ptrace(PTRACE_SYSCALL, thread, 0, signal);
    }
}
