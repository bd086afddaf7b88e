package ratelimit

import (
	"encoding/base64"
	"net/http"
	"strconv"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/sallyport-gateway/sallyport/modules/reject"
)

// setGRPCDetails tells a gRPC caller when to come back, in the two ways that
// clients read: google.rpc.RetryInfo and the pushback of gRFC A6.
func setGRPCDetails(h http.Header, r *http.Request, wait time.Duration, violated []string) {
	if r.ProtoMajor != 2 || !strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc") {
		return
	}
	failure := new(errdetails.QuotaFailure)
	for _, name := range violated {
		failure.Violations = append(failure.Violations, &errdetails.QuotaFailure_Violation{Subject: name, Description: "quota exceeded"})
	}
	s := &status.Status{Code: reject.GRPCResourceExhausted, Message: "quota-exceeded"}
	for _, detail := range []proto.Message{&errdetails.RetryInfo{RetryDelay: durationpb.New(wait)}, failure} {
		packed, err := anypb.New(detail)
		if err != nil {
			return // the status itself says enough
		}
		s.Details = append(s.Details, packed)
	}
	text, err := proto.Marshal(s)
	if err != nil {
		return
	}
	h.Set("Grpc-Status-Details-Bin", base64.RawStdEncoding.EncodeToString(text))
	h.Set("Grpc-Retry-Pushback-Ms", strconv.FormatInt(int64((wait+time.Millisecond-1)/time.Millisecond), 10))
}
