/* The table of tensors from inside: for the readers of file formats, which fill it. */
#ifndef QR_TENSOR_FILES_H
#define QR_TENSOR_FILES_H

#include "model/files.h"
#include "model/tensors.h"

enum { QR_FILE_NAME_BYTES = 256 };

typedef struct qr_tensor_file {
    char     name[QR_FILE_NAME_BYTES];  /* as the list of shards calls it */
    char     label[QR_FILE_NAME_BYTES]; /* with the end of its folder's path, for messages */
    qr_file  file;
    char    *names; /* [name_bytes], of its tensors; the table's to deallocate */
    uint64_t name_bytes;
} qr_tensor_file;

/* A matrix in several tensors: packed.h. */
typedef struct qr_packed {
    uint32_t  packing; /* qr_packing */
    uint32_t  bits;
    uint32_t  zero_add;                           /* to each stored zero point */
    uint64_t  columns, k, groups, group;          /* group: inputs of one */
    bool      ordered;                            /* inputs of a group do not follow each other */
    qr_tensor codes, scales, zeros, order, shape; /* without a name: there is none */
} qr_packed;

struct qr_tensors {
    quire_allocator allocator;
    qr_tensor_file *files; /* [file_capacity] */
    uint32_t        file_count, file_capacity;
    qr_tensor      *tensors; /* [count] ascending by name, once it is sorted */
    uint32_t        count, capacity;
    qr_packed      *packed; /* [packed_count] */
    uint32_t        packed_count;
    char           *more_names; /* [more_name_bytes], of tensors that files hold as parts of others */
    uint64_t        more_name_bytes;
    const char     *config_name;               /* as qr_tensors_config_name */
    char            index[QR_FILE_NAME_BYTES]; /* label of the list of shards; "": there is none */
};

#define QR_BAD_TENSOR(error, file, tensor, format, ...)                                                                \
    qr_fail(error, QUIRE_ERR_FORMAT, "%s: tensor \"%.80s\": " format, file, (tensor)->name, __VA_ARGS__)

/* An empty table for at most `files` files. *files_out is to be closed even after a failure. */
quire_status qr_tensors_create(const quire_allocator *allocator, uint32_t files, qr_tensors **files_out,
                               quire_error *error);
/* Returns `status`; unless it is OK, *files is closed and NULL. */
quire_status qr_tensors_closing_on_failure(quire_status status, qr_tensors **files);

/* Opens one more file, whose tensors are those that are added until the next one. ERR_IO. */
quire_status qr_tensors_open_file(qr_tensors *files, const char *path, const char *name, quire_error *error);

/* One more tensor, zero but for `file`, the last one opened; it counts once qr_tensors.count is increased. */
quire_status qr_tensors_reserve(qr_tensors *files, qr_tensor **tensor_out, quire_error *error);

/* Checks that those of the last file, from `first` on, have different names, and leaves them in the order of their
 * bytes. ERR_FORMAT. */
quire_status qr_tensors_check_names(qr_tensors *files, uint32_t first, quire_error *error);

/* Takes a tensor out of the table. */
void qr_tensors_drop(qr_tensors *files, const qr_tensor *tensor);

/* By name, and those of one name by file. */
void qr_tensors_sort(qr_tensors *files);

/* The part of a path behind its last slash. */
const char *qr_path_last(const char *path);

#endif
