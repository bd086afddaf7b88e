package demo

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// event is what the terminal shows of an audit event.
type event struct {
	Type string    `json:"type"`
	Time time.Time `json:"time"`
	Data struct {
		// Code says why, such as `token-missing` or `open`.
		Code  string `json:"status_code"`
		Actor struct {
			User struct {
				UID string `json:"uid"`
			} `json:"user"`
		} `json:"actor"`
		Request struct {
			Method string `json:"http_method"`
			URL    struct {
				Path string `json:"path"`
			} `json:"url"`
		} `json:"http_request"`
		Response struct {
			Code int `json:"code"`
		} `json:"http_response"`
		More struct {
			FallbackReason string `json:"fallback_reason"`
			Details        struct {
				Upstream string `json:"upstream"`
			} `json:"details"`
		} `json:"unmapped"`
	} `json:"data"`
}

// summary returns what happened in a few words, without the time.
func (e event) summary() string {
	words := []string{fmt.Sprintf("%-16s", strings.TrimPrefix(e.Type, "sallyport."))}
	for _, w := range []string{
		e.Data.Request.Method, e.Data.Request.URL.Path, status(e.Data.Response.Code),
		e.Data.Code, e.Data.More.FallbackReason, e.Data.More.Details.Upstream, e.Data.Actor.User.UID,
	} {
		if w != "" {
			words = append(words, w)
		}
	}
	return strings.TrimRight(strings.Join(words, " "), " ")
}

func status(code int) string {
	if code == 0 {
		return ""
	}
	return strconv.Itoa(code)
}

// summaries returns a line for each of events; of those in a row that say the
// same, one line with their number.
func summaries(events []json.RawMessage) []string {
	var lines []string
	var began time.Time
	said, times := "", 0
	flush := func() {
		if times == 0 {
			return
		}
		line := fmt.Sprintf("audit %s %s", began.Local().Format(time.TimeOnly), said)
		if times > 1 {
			line += fmt.Sprintf(" (%d times)", times)
		}
		lines = append(lines, line)
	}
	for _, raw := range events {
		var e event
		if json.Unmarshal(raw, &e) != nil || e.Type == "" {
			// Not one of ours: what it is can only be told by itself.
			e = event{Type: string(raw)}
		}
		if s := e.summary(); s != said {
			flush()
			said, times, began = s, 0, e.Time
		}
		times++
	}
	flush()
	return lines
}
