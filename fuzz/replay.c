/* SPDX-License-Identifier: MIT */
/* replay.c - runs a fuzz target without libFuzzer: on every file of a folder, then on 300 inputs of a fixed seed.
 *
 *     fuzz.<name> <folder or file>...
 */
#include "fuzz.h"

#include <dirent.h>
#include <string.h>
#include <sys/stat.h>

enum { N_RANDOM = 300, MOST_BYTES_OF_INPUT = 4096 };

static uint8_t input[MOST_BYTES_OF_INPUT];

static void run_file(const char *path)
{
    FILE *file = fopen(path, "rb");
    if (!file) {
        perror(path);
        exit(1);
    }
    size_t length = fread(input, 1, sizeof input, file);
    fclose(file);
    fprintf(stderr, "%s\n", path);
    LLVMFuzzerTestOneInput(input, length);
}

static void run_folder(const char *path)
{
    DIR *folder = opendir(path);
    if (!folder) {
        perror(path);
        exit(1);
    }
    for (struct dirent *entry; (entry = readdir(folder)) != NULL;) {
        char name[4096];
        if (entry->d_name[0] == '.')
            continue;
        snprintf(name, sizeof name, "%s/%s", path, entry->d_name);
        run_file(name);
    }
    closedir(folder);
}

/* xorshift64 */
static uint64_t next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

int main(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        struct stat about;
        if (stat(argv[i], &about) == 0 && S_ISDIR(about.st_mode))
            run_folder(argv[i]);
        else
            run_file(argv[i]);
    }
    uint64_t state = 88172645463325252u;
    for (int run = 0; run < N_RANDOM; run++) {
        size_t length = next_random(&state) % (run % 10 ? 200 : MOST_BYTES_OF_INPUT);
        for (size_t i = 0; i < length; i++)
            input[i] = (uint8_t)next_random(&state);
        LLVMFuzzerTestOneInput(input, length);
    }
    return 0;
}
