/* power DIRECTORY: cuts the power of the ext4 file system that holds the directory. What its journal and its files have not written is lost. */
#include <fcntl.h>
#include <linux/types.h>
#include <stdio.h>
#include <sys/ioctl.h>

#define EXT4_IOC_SHUTDOWN _IOR('X', 125, __u32)
#define EXT4_GOING_FLAGS_NOLOGFLUSH 2

int main(int count, char **arguments) {
    __u32 flags = EXT4_GOING_FLAGS_NOLOGFLUSH;
    if (count != 2) return 2;
    int directory = open(arguments[1], O_RDONLY | O_DIRECTORY);
    if (directory < 0 || ioctl(directory, EXT4_IOC_SHUTDOWN, &flags) < 0) {
        perror(arguments[1]);
        return 1;
    }
    return 0;
}
