package calendar

import (
	"testing"
	"time"
	_ "time/tzdata"

	"github.com/google/go-cmp/cmp"
)

func TestPeriod(t *testing.T) {
	for _, c := range []struct {
		name, zone, at string
		unit           Unit
		want           [2]string
	}{
		{"hour", "UTC", "2026-05-04T10:59:59Z", Hour, [2]string{"2026-05-04T10:00:00Z", "2026-05-04T11:00:00Z"}},
		{"half-hour zone", "Asia/Kolkata", "2026-05-04T10:40:00Z", Hour, [2]string{"2026-05-04T16:00:00+05:30", "2026-05-04T17:00:00+05:30"}},
		{"hour shown twice", "Europe/Berlin", "2026-10-25T01:10:00Z", Hour, [2]string{"2026-10-25T02:00:00+01:00", "2026-10-25T03:00:00+01:00"}},
		{"day of 23 hours", "Europe/Berlin", "2026-03-29T12:00:00Z", Day, [2]string{"2026-03-29T00:00:00+01:00", "2026-03-30T00:00:00+02:00"}},
		{"week begins on Monday", "UTC", "2026-05-03T23:00:00Z", Week, [2]string{"2026-04-27T00:00:00Z", "2026-05-04T00:00:00Z"}},
		{"week over the year", "UTC", "2027-01-01T00:00:00Z", Week, [2]string{"2026-12-28T00:00:00Z", "2027-01-04T00:00:00Z"}},
		{"February", "America/New_York", "2028-02-29T12:00:00Z", Month, [2]string{"2028-02-01T00:00:00-05:00", "2028-03-01T00:00:00-05:00"}},
		{"December", "UTC", "2026-12-31T23:59:59Z", Month, [2]string{"2026-12-01T00:00:00Z", "2027-01-01T00:00:00Z"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			loc, err := time.LoadLocation(c.zone)
			if err != nil {
				t.Fatal(err)
			}
			at, err := time.Parse(time.RFC3339, c.at)
			if err != nil {
				t.Fatal(err)
			}
			start, end := c.unit.Period(at.In(loc))
			got := [2]string{start.Format(time.RFC3339), end.Format(time.RFC3339)}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("period of %s (-want +got):\n%s", c.at, diff)
			}
			if _, again := c.unit.Period(end); !again.After(end) {
				t.Errorf("the period after %s ends at %s", end, again)
			}
		})
	}
}

func TestCountStartsAnewWithThePeriod(t *testing.T) {
	var c Count
	c.Spend(100, 7)
	if got := c.Wait(7, 100, 40, 1); got != 60 {
		t.Errorf("Wait in the used period = %v, want 60", got)
	}
	if got := c.Wait(7, 200, 140, 1); got > 0 {
		t.Errorf("Wait in the next period = %v, want none", got)
	}
	c.Spend(100, -2)
	if got := c.At(100); got != 5 {
		t.Errorf("after a refund of 2 of 7: %v, want 5", got)
	}
}
