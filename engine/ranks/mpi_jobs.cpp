#if defined(PASTUR_HAVE_MPI)
#include "engine/ranks/mpi_jobs.h"

#include "kernels/fill.h"
#include "kernels/reduce.h"

namespace pastur {
namespace {

Tensor part_of(const Tensor& x, int rank, int size) {
    const int64_t n = x.numel() / size;
    return x.slice(0, rank * n, n);
}

Tensor view(std::vector<float>& buffer, DType dtype, Shape shape) {
    return Tensor(reinterpret_cast<std::byte*>(buffer.data()), dtype, shape);
}

/// bf16 only moves: it is added up here.
MPI_Datatype mpi_type(DType wire) {
    return wire == DType::kBF16 ? MPI_UINT16_T : MPI_FLOAT;
}

bool is_finished(MPI_Request& request, bool wait) {
    int done = 1;
    if (wait)
        check_mpi(MPI_Wait(&request, MPI_STATUS_IGNORE), "MPI_Wait");
    else
        check_mpi(MPI_Test(&request, &done, MPI_STATUS_IGNORE), "MPI_Test");
    return done != 0;
}

}  // namespace

MpiJobs::MpiJobs() {
    check_mpi(MPI_Comm_rank(MPI_COMM_WORLD, &rank_), "MPI_Comm_rank");
    check_mpi(MPI_Comm_size(MPI_COMM_WORLD, &size_), "MPI_Comm_size");
    check_mpi(MPI_Comm_dup(MPI_COMM_WORLD, &exchanges_), "MPI_Comm_dup");
    check_mpi(MPI_Comm_dup(MPI_COMM_WORLD, &gathers_), "MPI_Comm_dup");
}

MpiJobs::~MpiJobs() {
    MPI_Comm_free(&exchanges_);
    MPI_Comm_free(&gathers_);
}

std::vector<float> MpiJobs::take_buffer(int64_t bytes) {
    std::vector<float> buffer;
    if (!spare_.empty()) {
        buffer = std::move(spare_.back());
        spare_.pop_back();
    }
    buffer.resize(static_cast<size_t>(bytes + 3) / sizeof(float));
    return buffer;
}

void MpiJobs::begin_sum(Context& ctx, const Sum& sum) {
    while (std::ssize(jobs_) >= kMpiExchanges) {  // the oldest makes room
        Job& oldest = *jobs_.front();
        is_finished(oldest.request, true);
        advance(ctx, false);
    }
    auto job = std::make_unique<Job>(Job{Job::Stage::kExchange, sum});
    ConstTensor sent = sum.x;
    if (is_cuda(ctx)) {
        job->staged = take_buffer(sent.nbytes());
        download(ctx, as_tensor(std::span(job->staged)), sent);
        sent = as_tensor(std::span(job->staged));
    }
    const int64_t bytes = sent.numel() * size_of(sum.wire);
    if (sum.wire == DType::kBF16) {
        job->narrow = take_buffer(bytes);
        const Tensor rounded = view(job->narrow, sum.wire, {sent.numel()});
        cast(host(ctx), rounded, sent);
        sent = rounded;
    }
    job->received = take_buffer(bytes);
    const auto part = static_cast<int>(sum.total.numel());
    check_mpi(MPI_Ialltoall(sent.bytes(), part, mpi_type(sum.wire), job->received.data(), part,
                            mpi_type(sum.wire), exchanges_, &job->request),
              "MPI_Ialltoall");
    jobs_.push_back(std::move(job));
    advance(ctx, false);
}

void MpiJobs::begin_gather(Context& ctx, Tensor x) {
    const Sum summed{part_of(x, rank_, size_), x, Update::kAssign, Then::kGather, x, DType::kF32};
    jobs_.push_back(std::make_unique<Job>(Job{Job::Stage::kSummed, summed}));
    advance(ctx, false);
}

void MpiJobs::add_up(Context& ctx, Job& job) {
    const Sum& sum = job.sum;
    const int64_t part = sum.total.numel();
    const Tensor total = is_cuda(ctx) ? as_tensor(std::span(job.staged)).slice(0, 0, part) : sum.total;
    if (is_cuda(ctx) && sum.update == Update::kAccumulate) download(ctx, total, sum.total);
    sum_rows(host(ctx), total, view(job.received, sum.wire, {size_, part}), sum.update);
    if (sum.wire == DType::kBF16 && sum.then != Then::kNothing) {
        const Tensor rounded = part_of(view(job.narrow, sum.wire, {size_ * part}), rank_, size_);
        cast(host(ctx), rounded, total);
        cast(host(ctx), total, rounded);
    }
    if (is_cuda(ctx)) upload(ctx, sum.total, total);
}

void MpiJobs::start_gather(Context& ctx, Job& job) {
    const Sum& sum = job.sum;
    const auto part = static_cast<int>(sum.total.numel());
    void* data = sum.gathered.bytes();
    if (sum.wire == DType::kBF16) {
        data = job.narrow.data();
    } else if (is_cuda(ctx)) {
        job.staged.resize(static_cast<size_t>(sum.gathered.numel()));
        download(ctx, part_of(as_tensor(std::span(job.staged)), rank_, size_),
                 part_of(sum.gathered, rank_, size_));
        data = job.staged.data();
    }
    check_mpi(MPI_Iallgather(MPI_IN_PLACE, part, mpi_type(sum.wire), data, part, mpi_type(sum.wire), gathers_,
                             &job.request),
              "MPI_Iallgather");
}

void MpiJobs::end_gather(Context& ctx, Job& job) {
    const Tensor& gathered = job.sum.gathered;
    if (job.sum.wire == DType::kBF16)
        cast(host(ctx), is_cuda(ctx) ? as_tensor(std::span(job.staged)) : gathered,
             view(job.narrow, DType::kBF16, {gathered.numel()}));
    if (is_cuda(ctx)) upload(ctx, gathered, as_tensor(std::span(job.staged)));
}

/// Oldest first. A job that is not done holds back the gathers of later ones, so gathers begin in order.
void MpiJobs::advance(Context& ctx, bool wait) {
    bool in_order = true;
    for (const auto& job : jobs_) {
        if (job->stage == Job::Stage::kExchange && is_finished(job->request, wait)) {
            add_up(ctx, *job);
            job->stage = job->sum.then == Then::kGather ? Job::Stage::kSummed : Job::Stage::kDone;
        }
        if (job->stage == Job::Stage::kSummed && in_order) {
            start_gather(ctx, *job);
            job->stage = Job::Stage::kGather;
        }
        in_order = in_order && job->stage > Job::Stage::kSummed;
        if (job->stage == Job::Stage::kGather && is_finished(job->request, false)) {
            end_gather(ctx, *job);
            job->stage = Job::Stage::kDone;
        }
    }
    for (const auto& job : jobs_) {
        if (!wait || job->stage != Job::Stage::kGather) continue;
        is_finished(job->request, true);
        end_gather(ctx, *job);
        job->stage = Job::Stage::kDone;
    }
    for (; !jobs_.empty() && jobs_.front()->stage == Job::Stage::kDone; jobs_.pop_front())
        for (std::vector<float>* buffer :
             {&jobs_.front()->received, &jobs_.front()->staged, &jobs_.front()->narrow})
            if (buffer->capacity() > 0) spare_.push_back(std::move(*buffer));
}

}  // namespace pastur
#endif
