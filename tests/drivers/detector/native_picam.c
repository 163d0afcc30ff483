/* A small vendor library in C with the functions, structures and pointers of PICam, to be called through ctypes.
   One camera of 64 x 8 pixels that bins at most 4 rows and puts 8 bytes of metadata after each frame. Pixel x of row y
   in frame n holds 100 n + 10 y + x, summed over the rows that are binned. No time passes. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef struct { int model, computer_interface; char sensor_name[64], serial_number[64]; } CameraID;
typedef struct { int x, width, x_binning, y, height, y_binning; } Roi;
typedef struct { Roi *roi_array; int roi_count; } Rois;
typedef struct { void *initial_readout; int64_t readout_count; } AvailableData;
typedef struct { int running, errors; double readout_rate; } AcquisitionStatus;
typedef struct {
    int scope, severity, empty_set;
    double minimum, maximum, increment;
    const double *excluded; int excluded_count;
    const double *outlying; int outlying_count;
} RangeConstraint;
typedef struct {
    int scope, severity, empty_set, rules, maximum_roi_count;
    RangeConstraint x, width;
    const int *x_binning_limits; int x_binning_limits_count;
    RangeConstraint y, height;
    const int *y_binning_limits; int y_binning_limits_count;
} RoisConstraint;

enum { WIDTH = 64, HEIGHT = 8, METADATA = 8 };
enum {
    EXPOSURE = 33685527, ROIS = 67436581, READOUT_COUNT = 33947688, READOUT_STRIDE = 16842797, FRAME_SIZE = 16842794,
    BIT_DEPTH = 16842800, ACTIVE_WIDTH = 16842811, ACTIVE_HEIGHT = 16842812, PIXEL_WIDTH = 16908297,
    SET_POINT = 33685518, TEMPERATURE = 16908303, STATUS = 17039376, READOUT_TIME = 16908315
};
static const int binnings[] = {1, 2, 4};
static const CameraID me = {2, 1, "C", "4711"};
static int camera, open_handles, committed = 1, running, told, frame;
static double exposure_ms = 100, set_point_c = 25;
static int64_t readout_count = 7;
static Roi roi = {0, WIDTH, 1, 0, HEIGHT, 1};
static uint16_t buffer[WIDTH * HEIGHT + METADATA];

static int frame_bytes(void) { return 2 * roi.width * (roi.height / roi.y_binning); }
static void *copy(const void *what, size_t size) { return memcpy(malloc(size), what, size); }

int Picam_InitializeLibrary(void) { return 0; }
int Picam_UninitializeLibrary(void) { return open_handles ? 4 : 0; }
int Picam_GetVersion(int *a, int *b, int *c, int *d) { *a = 5; *b = 1; *c = 2; *d = 3; return 0; }
int Picam_OpenFirstCamera(void **handle) { *handle = &camera; open_handles++; return 0; }
int Picam_GetAvailableCameraIDs(const CameraID **ids, int *count) { *ids = copy(&me, sizeof me); *count = 1; return 0; }
int Picam_DestroyCameraIDs(const CameraID *ids) { free((void *)ids); return 0; }
int Picam_OpenCamera(const CameraID *id, void **handle) {
    if (strcmp(id->serial_number, me.serial_number)) return 8;
    return Picam_OpenFirstCamera(handle);
}
int Picam_CloseCamera(void *handle) { if (handle != &camera) return 9; open_handles--; return 0; }
int Picam_GetCameraID(void *handle, CameraID *id) { if (handle != &camera) return 9; *id = me; return 0; }
int Picam_GetEnumerationString(int type, int value, const char **text) {
    if (type != 2 || value != 2) return 17;
    *text = strcpy(malloc(16), "Native camera");
    return 0;
}
int Picam_DestroyString(const char *text) { free((void *)text); return 0; }

int Picam_DoesParameterExist(void *handle, int id, int *exists) {
    *exists = id == EXPOSURE || id == READOUT_COUNT || id == SET_POINT || id == ROIS;
    return handle == &camera ? 0 : 9;
}
int Picam_IsParameterRelevant(void *handle, int id, int *yes) { return Picam_DoesParameterExist(handle, id, yes); }
int Picam_GetParameterIntegerValue(void *handle, int id, int *value) {
    switch (id) {
    case ACTIVE_WIDTH: *value = WIDTH; return 0;
    case ACTIVE_HEIGHT: *value = HEIGHT; return 0;
    case BIT_DEPTH: *value = 16; return 0;
    case FRAME_SIZE: *value = frame_bytes(); return 0;
    case READOUT_STRIDE: *value = frame_bytes() + METADATA; return 0;
    }
    return 12;
}
int Picam_GetParameterLargeIntegerValue(void *handle, int id, int64_t *value) {
    *value = readout_count;
    return id == READOUT_COUNT ? 0 : 11;
}
int Picam_SetParameterLargeIntegerValue(void *handle, int id, int64_t value) {
    if (id != READOUT_COUNT) return 11;
    readout_count = value; committed = 0;
    return 0;
}
int Picam_GetParameterFloatingPointValue(void *handle, int id, double *value) {
    switch (id) {
    case EXPOSURE: *value = exposure_ms; return 0;
    case SET_POINT: *value = set_point_c; return 0;
    case PIXEL_WIDTH: *value = 13.5; return 0;
    case READOUT_TIME: *value = 2.5; return 0;
    }
    return 12;
}
int Picam_SetParameterFloatingPointValue(void *handle, int id, double value) {
    if (id == EXPOSURE) exposure_ms = value;
    else if (id == SET_POINT) set_point_c = value;
    else return 12;
    committed = 0;
    return 0;
}
int Picam_ReadParameterFloatingPointValue(void *handle, int id, double *value) {
    *value = set_point_c;
    return id == TEMPERATURE ? 0 : 26;
}
int Picam_ReadParameterIntegerValue(void *handle, int id, int *value) { *value = 2; return id == STATUS ? 0 : 26; }
int Picam_GetParameterRoisValue(void *handle, int id, const Rois **rois) {
    Rois *mine = malloc(sizeof *mine);
    mine->roi_array = copy(&roi, sizeof roi); mine->roi_count = 1;
    *rois = mine;
    return 0;
}
int Picam_SetParameterRoisValue(void *handle, int id, const Rois *rois) {
    roi = rois->roi_array[0]; committed = 0;
    return rois->roi_count == 1 ? 0 : 2;
}
int Picam_DestroyRois(const Rois *rois) { free(rois->roi_array); free((void *)rois); return 0; }
int Picam_GetParameterRangeConstraint(void *handle, int id, int category, const RangeConstraint **constraint) {
    RangeConstraint limits = {.minimum = -70, .maximum = 25, .increment = 1};
    if (id == EXPOSURE) { limits.minimum = 1; limits.maximum = 60000; limits.increment = 0.5; }
    *constraint = copy(&limits, sizeof limits);
    return category == 2 ? 0 : 38;
}
int Picam_DestroyRangeConstraints(const RangeConstraint *constraint) { free((void *)constraint); return 0; }
int Picam_GetParameterRoisConstraint(void *handle, int id, int category, const RoisConstraint **constraint) {
    RoisConstraint limits = {.y_binning_limits = binnings, .y_binning_limits_count = 3};
    *constraint = copy(&limits, sizeof limits);
    return category == 2 ? 0 : 38;
}
int Picam_DestroyRoisConstraints(const RoisConstraint *constraint) { free((void *)constraint); return 0; }
int Picam_CommitParameters(void *handle, const int **failed, int *count) {
    *failed = NULL; *count = 0;
    if (exposure_ms == 42) { int id = EXPOSURE; *failed = copy(&id, sizeof id); *count = 1; return 0; }
    committed = 1;
    return 0;
}
int Picam_DestroyParameters(const int *failed) { free((void *)failed); return 0; }

int Picam_StartAcquisition(void *handle) {
    if (!committed) return 29;
    if (running) return 20;
    running = 1; told = 0; frame++;
    return readout_count == 1 ? 0 : 36;
}
int Picam_StopAcquisition(void *handle) { if (!running) return 27; told = 1; return 0; }
int Picam_IsAcquisitionRunning(void *handle, int *yes) { *yes = running; return 0; }
int Picam_WaitForAcquisitionUpdate(void *handle, int timeout_ms, AvailableData *data, AcquisitionStatus *status) {
    memset(buffer, 0xA5, sizeof buffer);
    if (!running) return 27;
    running = !told;
    *status = (AcquisitionStatus){running, 0, 9.5};
    *data = (AvailableData){NULL, 0};
    if (!told) {
        for (int y = 0; y < roi.height; y++)
            for (int x = 0; x < roi.width; x++) {
                uint16_t *pixel = &buffer[(y / roi.y_binning) * roi.width + x];
                *pixel = (y % roi.y_binning ? *pixel : 0) + 100 * frame + 10 * y + x;
            }
        *data = (AvailableData){buffer, 1};
    }
    told = 1;
    return 0;
}
