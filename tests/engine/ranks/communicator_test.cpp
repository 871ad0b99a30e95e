// A communicator that failed is aborted before its error is thrown, and none is leaked.
#include "engine/ranks/communicator.h"

#include <gtest/gtest.h>

#include <vector>

#include "tests/support/expect_error.h"

namespace pastur::test {
namespace {

/// Records its calls. async_error() returns the results in `later` one by one, and then the last one for ever.
struct FakeLibrary {
    using Handle = int*;
    enum Result { kSuccess, kInProgress, kRemoteError };
    Result async_error(Handle) const {
        const Result result = later.front();
        if (later.size() > 1) later.erase(later.begin());
        return result;
    }
    Result finalize(Handle) const {
        calls.push_back("finalize");
        return finalized;
    }
    void destroy(Handle) const { calls.push_back("destroy"); }
    void abort(Handle) const { calls.push_back("abort"); }
    std::string explain(Handle handle, Result) const {
        calls.push_back(handle ? "explain" : "explain nothing");
        return "the network is gone";
    }
    mutable std::vector<Result> later = {kSuccess};
    mutable std::vector<std::string> calls;
    Result finalized = kInProgress;
};
using Calls = std::vector<std::string>;

class Communicators : public testing::Test {
  protected:
    /// `use` makes a communicator throw "ncclAllReduce: the network is gone".
    template <typename Use>
    void expect_aborted(Use use) {
        int memory = 0;
        {
            Communicator communicator(library_);
            *communicator.address() = &memory;
            expect_error(ExitCode::kRankLost, {"ncclAllReduce: the network is gone"},
                         [&] { use(communicator); });
            EXPECT_EQ(library_.calls, (Calls{"explain", "abort"})) << "before the exception is thrown";
        }
        EXPECT_EQ(library_.calls, (Calls{"explain", "abort"})) << "only once";
        library_.calls.clear();
    }
    FakeLibrary library_;
};

TEST_F(Communicators, EndOrderlyWhenNothingFailed) {
    int memory = 0;
    {
        Communicator communicator(library_);
        *communicator.address() = &memory;
        communicator.check(FakeLibrary::kSuccess, "ncclAllReduce");
        library_.later = {FakeLibrary::kInProgress, FakeLibrary::kInProgress, FakeLibrary::kSuccess};
        communicator.check(FakeLibrary::kInProgress, "ncclAllReduce");
        EXPECT_EQ(library_.later.size(), 1u) << "the call had not started yet";
        communicator.check_started(FakeLibrary::kInProgress, "ncclSend");
        EXPECT_EQ(library_.calls, Calls());
        library_.later = {FakeLibrary::kInProgress, FakeLibrary::kSuccess};
    }
    EXPECT_EQ(library_.calls, (Calls{"finalize", "destroy"}));
}

TEST_F(Communicators, AreAbortedBeforeTheErrorIsThrown) {
    expect_aborted([](auto& c) { c.check(FakeLibrary::kRemoteError, "ncclAllReduce"); });
    expect_aborted([](auto& c) { c.check_started(FakeLibrary::kRemoteError, "ncclAllReduce"); });
    library_.later = {FakeLibrary::kInProgress, FakeLibrary::kRemoteError};
    expect_aborted([](auto& c) { c.check(FakeLibrary::kInProgress, "ncclAllReduce"); });
}

TEST_F(Communicators, ThatFailWhileTheyWorkOrEndAreAborted) {
    int memory = 0;
    {
        Communicator communicator(library_);
        *communicator.address() = &memory;
        communicator.check_progress();
        library_.later = {FakeLibrary::kRemoteError};
        expect_error(ExitCode::kRankLost, {"the network is gone"}, [&] { communicator.check_progress(); });
    }
    EXPECT_EQ(library_.calls, (Calls{"explain", "abort"}));
    library_.calls.clear();
    library_.finalized = FakeLibrary::kRemoteError;
    {
        Communicator communicator(library_);
        *communicator.address() = &memory;
    }
    EXPECT_EQ(library_.calls, (Calls{"finalize", "abort"}));
}

TEST_F(Communicators, ThatWereNeverMadeAreNotEnded) {
    {
        Communicator communicator(library_);
        expect_error(ExitCode::kRankLost, {"ncclCommInitRankConfig: "},
                     [&] { communicator.check(FakeLibrary::kRemoteError, "ncclCommInitRankConfig"); });
    }
    EXPECT_EQ(library_.calls, Calls{"explain nothing"});
}

}  // namespace
}  // namespace pastur::test
