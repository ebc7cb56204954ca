. /etc/profile
