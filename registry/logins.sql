-- :lines
-- Every login of a unit that has not left, as lines of the broker's password file.
COPY (SELECT imei || ':' || broker_login FROM unit WHERE lifecycle <> 'TERMINATED' ORDER BY imei) TO STDOUT;
