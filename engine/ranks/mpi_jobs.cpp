#if defined(PASTUR_HAVE_MPI)
#include "engine/ranks/mpi_jobs.h"

#include "kernels/reduce.h"

namespace pastur {
namespace {

Tensor part_of(const Tensor& x, int rank, int size) {
    const int64_t n = x.numel() / size;
    return x.slice(0, rank * n, n);
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

std::vector<float> MpiJobs::take_buffer(int64_t count) {
    std::vector<float> buffer;
    if (!spare_.empty()) {
        buffer = std::move(spare_.back());
        spare_.pop_back();
    }
    buffer.resize(static_cast<size_t>(count));
    return buffer;
}

void MpiJobs::begin_sum(Context& ctx, Tensor total, ConstTensor x, Update update, Then then,
                        Tensor gathered) {
    while (std::ssize(jobs_) >= kMpiExchanges) {  // the oldest makes room
        Job& oldest = *jobs_.front();
        is_finished(oldest.request, true);
        advance(ctx, false);
    }
    auto job = std::make_unique<Job>(
        Job{Job::Stage::kExchange, total, gathered, update, then, {}, {}, MPI_REQUEST_NULL});
    const auto part = static_cast<int>(total.numel());
    const void* send = x.bytes();
    if (is_cuda(ctx)) {
        job->staged = take_buffer(x.numel());
        download(ctx, as_tensor(std::span(job->staged)), x);
        send = job->staged.data();
    }
    job->received = take_buffer(x.numel());
    check_mpi(MPI_Ialltoall(send, part, MPI_FLOAT, job->received.data(), part, MPI_FLOAT, exchanges_,
                            &job->request),
              "MPI_Ialltoall");
    jobs_.push_back(std::move(job));
    advance(ctx, false);
}

void MpiJobs::begin_gather(Context& ctx, Tensor x) {
    auto job = std::make_unique<Job>(Job{Job::Stage::kSummed,
                                         part_of(x, rank_, size_),
                                         x,
                                         Update::kAssign,
                                         Then::kGather,
                                         {},
                                         {},
                                         MPI_REQUEST_NULL});
    jobs_.push_back(std::move(job));
    advance(ctx, false);
}

void MpiJobs::add_up(Context& ctx, Job& job) {
    const Tensor rows = as_tensor(std::span(job.received)).reshape({size_, job.total.numel()});
    if (!is_cuda(ctx)) return sum_rows(std::get<CpuContext>(ctx), job.total, rows, job.update);
    const Tensor sum = as_tensor(std::span(job.staged)).slice(0, 0, job.total.numel());
    if (job.update == Update::kAccumulate) download(ctx, sum, job.total);
    sum_rows(host_, sum, rows, job.update);
    upload(ctx, job.total, sum);
}

void MpiJobs::start_gather(Context& ctx, Job& job) {
    const auto part = static_cast<int>(job.total.numel());
    void* data = job.gathered.bytes();
    if (is_cuda(ctx)) {
        job.staged.resize(static_cast<size_t>(job.gathered.numel()));
        download(ctx, part_of(as_tensor(std::span(job.staged)), rank_, size_),
                 part_of(job.gathered, rank_, size_));
        data = job.staged.data();
    }
    check_mpi(MPI_Iallgather(MPI_IN_PLACE, part, MPI_FLOAT, data, part, MPI_FLOAT, gathers_, &job.request),
              "MPI_Iallgather");
}

void MpiJobs::end_gather(Context& ctx, Job& job) {
    if (is_cuda(ctx)) upload(ctx, job.gathered, as_tensor(std::span(job.staged)));
}

/// Oldest first. A job that is not done holds back the gathers of later ones, so gathers begin in order.
void MpiJobs::advance(Context& ctx, bool wait) {
    bool in_order = true;
    for (const auto& job : jobs_) {
        if (job->stage == Job::Stage::kExchange && is_finished(job->request, wait)) {
            add_up(ctx, *job);
            job->stage = job->then == Then::kGather ? Job::Stage::kSummed : Job::Stage::kDone;
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
        for (std::vector<float>* buffer : {&jobs_.front()->received, &jobs_.front()->staged})
            if (buffer->capacity() > 0) spare_.push_back(std::move(*buffer));
}

}  // namespace pastur
#endif
