// Package calendar counts requests in periods of the calendar: an hour, a day, a
// week from Monday, a month, in a time zone. A period is as long as its clock
// says, so a day of the change to summer time has 23 hours.
package calendar

import "time"

// Unit is the length of a period.
type Unit string

// The units.
const (
	Hour  Unit = "hour"
	Day   Unit = "day"
	Week  Unit = "week"
	Month Unit = "month"
)

// Units lists all units.
var Units = []string{string(Hour), string(Day), string(Week), string(Month)}

// Period returns the period of t: from start on, up to but without end.
func (u Unit) Period(t time.Time) (start, end time.Time) {
	y, m, d := t.Date()
	day := func(y int, m time.Month, d int) time.Time { return time.Date(y, m, d, 0, 0, 0, 0, t.Location()) }
	switch u {
	case Hour:
		// Not by time.Date: an hour that the clock shows twice is two hours.
		into := time.Duration(t.Minute())*time.Minute + time.Duration(t.Second())*time.Second + time.Duration(t.Nanosecond())
		start = t.Add(-into)
		return start, start.Add(time.Hour)
	case Week:
		d -= (int(t.Weekday()) + 6) % 7
		return day(y, m, d), day(y, m, d+7)
	case Month:
		return day(y, m, 1), day(y, m+1, 1)
	}
	return day(y, m, d), day(y, m, d+1)
}

// Count is how much of which period is used. The zero value is of none.
type Count struct {
	// End is the end of the period, in microseconds.
	End  float64
	Used float64
}

// At returns what is used of the period that ends at end.
func (c Count) At(end float64) float64 {
	if c.End == end {
		return c.Used
	}
	return 0
}

// Wait returns how long a request of this cost must wait at now.
func (c Count) Wait(limit, end, now, cost float64) float64 {
	if cost == 0 || c.At(end)+cost <= limit {
		return 0
	}
	return end - now
}

// Spend charges the period that ends at end. A negative cost is a refund.
func (c *Count) Spend(end, cost float64) {
	c.Used = max(c.At(end)+cost, 0)
	c.End = end
}
