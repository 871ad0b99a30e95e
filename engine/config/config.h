#pragma once
// A run's resolved configuration: defaults < preset < recipe file < --section.key=value.
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "engine/config/choices.h"

namespace pastur {

/// An attention variant: a row of the table in engine/model/attention/variants.h.
enum class Variant : uint8_t {};

struct ModelConfig {
    std::string preset = "nano";
    int64_t vocab = 0;    ///< V, rows of the embedding
    int64_t d_model = 0;  ///< C, width of the residual stream
    int64_t layers = 0;
    int64_t heads = 0;     ///< H
    int64_t kv_heads = 0;  ///< mha only; 0: heads
    int64_t head_dim = 0;  ///< D; 0: d_model / heads
    int64_t ffn = 0;       ///< F
    double rope_theta = 10000.0;
    double norm_eps = 1e-6;
    bool tie_embeddings = false;  ///< the LM head reads the embedding's rows
    bool operator==(const ModelConfig&) const = default;
};

struct AttentionConfig {
    Variant variant{};
    int64_t kv_rank = 0;   ///< width of the joint latent (decoupled; prerope at site "input"); 0: d_model / 2
    int64_t k_rank = 0;    ///< prerope: width of the key latent; 0: d_model / 4
    int64_t v_rank = 0;    ///< prerope: width of the value latent; 0: d_model / 4
    int64_t nope_dim = 0;  ///< decoupled: content width of a head, d_n; 0: head_dim / 2
    int64_t rope_dim = 0;  ///< decoupled: width of the shared rotary key, d_R; 0: head_dim / 2
    int64_t v_dim = 0;     ///< decoupled: value width of a head, d_v; 0: head_dim
    int64_t q_rank = 0;    ///< decoupled: width of the query latent; 0: queries are not compressed
    bool latent_norm = false;  ///< RMS norm on the latents; by default true, but false in prerope
    PreropeSite prerope_site = PreropeSite::kKeys;
    LatentGain latent_gain = LatentGain::kNone;
    QkNorm qk_norm = QkNorm::kNone;
    int64_t stride = 0;  ///< mtla: adjacent latents merged into one, s; 0: 2
    bool operator==(const AttentionConfig&) const = default;
};

struct DataConfig {
    std::string dir;    ///< folder made by `pastur data prepare`
    std::string train;  ///< glob of training shards; empty: <dir>/train_*.bin
    std::string val;    ///< glob of validation shards; empty: <dir>/val_*.bin
    std::string
        mixture;  ///< "DIR=WEIGHT, DIR=WEIGHT, ...": token folders and their share of sequences, instead of dir
    std::string val_sets;  ///< "NAME=GLOB, NAME=GLOB, ...": further validation sets
    Packing packing = Packing::kStream;
    bool mask_documents = false;  ///< attention stays within a document (document_bounds.h)
    int64_t seq_len = 256;
    bool operator==(const DataConfig&) const = default;
};

struct TrainConfig {
    int64_t steps = 1000;
    int64_t global_batch = 32;  ///< sequences per step, over all ranks and micro-batches
    int64_t micro_batch = 0;    ///< sequences per forward pass; 0: default_micro_batch
    double lr = 1e-3;
    int64_t warmup_steps = 0;  ///< linear
    Schedule schedule = Schedule::kCosine;
    double final_lr_fraction = 0.1;  ///< the last step's learning rate over lr (cosine, wsd)
    OptimizerKind optimizer = OptimizerKind::kAdamw;
    double beta1 = 0.9;
    double beta2 = 0.999;
    double eps = 1e-8;
    double weight_decay = 0.0;
    double grad_clip = 0.0;  ///< global norm; 0: no clipping
    double qk_clip = 0.0;    ///< largest logit of a head, beyond which its weights are scaled; 0: none
    uint64_t seed = 1;
    std::string init_from;  ///< checkpoint with the weights of step 0; empty: random numbers
    Precision precision = Precision::kAuto;
    StateFormat weights = StateFormat::kFp32;  ///< master weights
    StateFormat moments = StateFormat::kFp32;  ///< of AdamW
    int64_t fp8_min_outputs = 768;             ///< fp8: GEMMs of fewer outputs are as under auto
    int64_t fp8_min_gradient_side = 2048;  ///< fp8: weight gradients with a shorter side are as under auto
    RecomputeSetting recompute;
    int64_t val_every = 100;     ///< steps; 0: only at the end
    int64_t val_tokens = 65536;  ///< most tokens that a validation reads
    OnNonfinite nonfinite = OnNonfinite::kAbort;
    int64_t zero = 0;                         ///< 1: optimizer state is divided over the ranks
    bool deterministic_comm = false;          ///< the same bits on any number of ranks (gradient_sync.h)
    CommDtype comm_dtype = CommDtype::kFp32;  ///< format of the gradients that ranks exchange
    double comm_timeout_s = 300;              ///< silence after which a rank counts as lost
    bool cuda_graph = true;  ///< CUDA: a micro-batch's kernels are captured once and replayed
    bool operator==(const TrainConfig&) const = default;
};

struct CheckpointConfig {
    int64_t every = 0;  ///< steps; 0: only at the end
    int64_t keep = 2;   ///< newest checkpoints kept; 0: all
    bool operator==(const CheckpointConfig&) const = default;
};

struct DiagnosticsConfig {
    int64_t every = 100;  ///< steps between measurements; 0: no diagnostics
    std::vector<int64_t> early = {0, 10, 20, 50, 100, 200};  ///< further steps that are measured
    std::vector<Scope> scopes;                               ///< empty: VariantInfo::default_scopes
    std::vector<NullKind> nulls = {NullKind::kProduct, NullKind::kMp};
    VarianceEstimate mp_variance = VarianceEstimate::kEntries;  ///< for the mp null
    bool spectra = true;             ///< also write the eigenvalues of every measurement
    double tw_quantile = 0.99;       ///< Tracy-Widom quantile at which a null's edge is drawn beyond its bulk
    double spike_ratio = 1.2;        ///< lowest threshold of the event spike (spectral_events.h)
    double collapse_fraction = 0.5;  ///< highest threshold of the event collapse
    int64_t permutations = 4;        ///< draws averaged by the nulls permuted and profile
    int64_t probe_sequences = 8;     ///< validation sequences that the scopes logits and latents read
    Eigensolver solver = Eigensolver::kAuto;
    std::vector<int64_t> positions = {};  ///< of scope positions: i0, j0, i1, j1, ... (position_pairs())
    bool operator==(const DiagnosticsConfig&) const = default;
};

struct RunConfig {
    std::string name;   ///< empty: <preset>-<variant>
    std::string dir;    ///< empty: runs/<name>
    std::string notes;  ///< what the run is for, shown on its page
    std::string hook;   ///< command run after each checkpoint; empty: none
    int64_t log_every = 10;
    bool log_events = false;  ///< print every spike and collapse, not only one line per measurement
    bool tensorboard = true;  ///< also write events.out.tfevents.*
    bool operator==(const RunConfig&) const = default;
};

struct HardwareConfig {
    double peak_tflops = 0;  ///< of a device, the denominator of MFU; 0: measured on a GPU, unknown on a CPU
    bool operator==(const HardwareConfig&) const = default;
};

struct Config {
    ModelConfig model;
    AttentionConfig attention;
    DataConfig data;
    TrainConfig train;
    CheckpointConfig checkpoint;
    DiagnosticsConfig diagnostics;
    RunConfig run;
    HardwareConfig hw;
    bool operator==(const Config&) const = default;
};

/// One `--section.key=value` of the command line.
using Override = std::pair<std::string, std::string>;

/// The largest divisor of `sequences` for which a micro-batch holds at most 65,536 tokens (32,768 if the
/// model is wider than 1024); at least 1.
int64_t default_micro_batch(int64_t sequences, int64_t seq_len, int64_t width);

}  // namespace pastur
