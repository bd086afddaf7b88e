package reject

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
)

// details are google.rpc's own words for what a refusal says: ErrorInfo holds
// the code, RetryInfo when to try again.
func (r *Refusal) details() []proto.Message {
	var all []proto.Message
	if r.Code != "" {
		all = append(all, &errdetails.ErrorInfo{Reason: strings.ToUpper(strings.ReplaceAll(r.Code, "-", "_")), Domain: "sallyport"})
	}
	if r.RetryAfter > 0 {
		all = append(all, &errdetails.RetryInfo{RetryDelay: durationpb.New(r.RetryAfter)})
	}
	return all
}

// statusDetails is the value of grpc-status-details-bin, or nothing.
func (r *Refusal) statusDetails() string {
	s := &status.Status{Code: int32(r.grpcCode()), Message: r.message()}
	for _, d := range r.details() {
		if packed, err := anypb.New(d); err == nil {
			s.Details = append(s.Details, packed)
		}
	}
	text, err := proto.Marshal(s)
	if err != nil || len(s.Details) == 0 {
		return "" // code and message are told without it
	}
	return base64.RawStdEncoding.EncodeToString(text)
}

// writeGRPCWeb sends the status as the last frame of the body, which is where
// a browser can read it:
//
//	0x80 | length (4 bytes) | grpc-status:16\r\ngrpc-message:…\r\n
func writeGRPCWeb(w http.ResponseWriter, r *http.Request, ref *Refusal, base64Text bool) {
	trailers := "grpc-status:" + strconv.Itoa(ref.grpcCode()) + "\r\ngrpc-message:" + percentEncode(ref.message()) + "\r\n"
	if d := ref.statusDetails(); d != "" {
		trailers += "grpc-status-details-bin:" + d + "\r\n"
	}
	body := frame(0x80, []byte(trailers))
	if base64Text {
		body = []byte(base64.StdEncoding.EncodeToString(body))
	}
	send(w, r, http.StatusOK, r.Header.Get("Content-Type"), body)
}

// writeConnectStream sends the error in the message that ends a stream:
//
//	0x02 | length (4 bytes) | {"error":{…}}
func writeConnectStream(w http.ResponseWriter, r *http.Request, ref *Refusal) {
	text, err := json.Marshal(map[string]any{"error": ref.connectError()})
	if err != nil {
		text = []byte(`{"error":{"code":"internal"}}`)
	}
	send(w, r, http.StatusOK, r.Header.Get("Content-Type"), frame(0x02, text))
}

func writeConnectUnary(w http.ResponseWriter, r *http.Request, ref *Refusal) {
	text, err := json.Marshal(ref.connectError())
	if err != nil {
		text = []byte(`{"code":"internal"}`)
	}
	send(w, r, connectStatus[ref.grpcCode()], "application/json", text)
}

func frame(flag byte, payload []byte) []byte {
	b := make([]byte, 5, 5+len(payload))
	b[0] = flag
	binary.BigEndian.PutUint32(b[1:], uint32(len(payload)))
	return append(b, payload...)
}

// connectError is an error as the Connect protocol has it in JSON.
func (r *Refusal) connectError() map[string]any {
	e := map[string]any{"code": connectCode[r.grpcCode()], "message": r.message()}
	var details []map[string]string
	for _, d := range r.details() {
		if value, err := proto.Marshal(d); err == nil {
			details = append(details, map[string]string{
				"type":  string(d.ProtoReflect().Descriptor().FullName()),
				"value": base64.RawStdEncoding.EncodeToString(value),
			})
		}
	}
	if len(details) > 0 {
		e["details"] = details
	}
	return e
}

// The codes of gRPC by their number, as Connect spells them, and the HTTP
// status that Connect gives each.
var (
	connectCode = [17]string{
		"unknown", "canceled", "unknown", "invalid_argument", "deadline_exceeded", "not_found", "already_exists",
		"permission_denied", "resource_exhausted", "failed_precondition", "aborted", "out_of_range", "unimplemented",
		"internal", "unavailable", "data_loss", "unauthenticated",
	}
	connectStatus = [17]int{500, 499, 500, 400, 504, 404, 409, 403, 429, 400, 409, 400, 501, 500, 503, 500, 401}
)
